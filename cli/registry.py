"""The commands about registered versions: promote, history, rollback, prune."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.options import Gate, answer, guarded

Version = Annotated[str, typer.Argument(metavar="MODEL", help="Registered model: name (newest version), name@alias or name/version.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Registered model.")]
Alias = Annotated[str, typer.Option("--to", metavar="ALIAS", help="Alias to assign.")]
Reason = Annotated[str, typer.Option("--reason", help="Reason, recorded in the history.")]


@guarded
def promote(
    model: Version,
    alias: Alias = "champion",
    gate: Gate = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge; the exit code is that of a real promotion.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote regardless of the gate; needs --reason.")] = False,
    reason: Reason = "",
    on_stack: Annotated[bool, typer.Option("--on-stack", help="Run as a ZenML pipeline on the active stack.")] = False,
) -> None:
    """Judge a version by the gate, and make it the champion if it passes. Exits with 3 if it does not."""
    from cli.printing.registry import print_promotion
    from runs.promotion import promote as act

    result = act(model, gate, alias=alias, dry_run=dry_run, force=force, reason=reason, on_stack=on_stack)
    print_promotion(result)
    answer(result)
    if result["status"] != "completed":
        raise typer.Exit(3)


@guarded
def rollback(
    name: Name,
    to: Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Version; default: the previous holder of the alias.")] = None,
    alias: Annotated[str, typer.Option("--alias", help="Alias to move.")] = "champion",
    reason: Reason = "",
) -> None:
    """Move the alias back to the version that had it before."""
    from cli.printing.registry import print_history
    from runs.promotion import rollback as act

    entry = act(name, alias=alias, to=to, reason=reason)
    print_history([entry])
    answer({"status": "completed", "name": name, "history": asdict(entry)})


@guarded
def history(name: Name) -> None:
    """Show who made which version the champion, when and why."""
    from cli.printing.registry import print_history
    from runs.promotion import read_history

    entries = read_history(name)
    print_history(entries)
    answer({"status": "completed", "name": name, "history": [asdict(entry) for entry in entries]})


@guarded
def prune(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Registered model; default: all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the versions; without this option they are only listed.")] = False,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Number of newest versions of each model to keep in any case.")] = 3,
) -> None:
    """List, or with --yes delete, the versions that no alias, history or run needs."""
    from cli.printing.registry import print_pruning
    from runs.promotion import prune as act

    pruned = act(name, keep=keep, delete=yes)
    print_pruning(pruned, deleted=yes)
    answer({"status": "completed", "deleted": yes, "versions": [asdict(item) for item in pruned]})
