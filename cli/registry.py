"""The commands about registered versions: promote, history, rollback, prune."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli.options import Gate, answer, guarded

Version = Annotated[str, typer.Argument(metavar="MODEL", help="Registered name (its newest version), name@alias or name/version.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Registered model.")]
Alias = Annotated[str, typer.Option("--to", metavar="ALIAS", help="Alias that the version is to get.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; goes on record.")]


@guarded
def promote(
    model: Version,
    alias: Alias = "champion",
    gate: Gate = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge; exit as if it were for real.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote whatever the gate says; needs --reason.")] = False,
    reason: Reason = "",
    on_stack: Annotated[bool, typer.Option("--on-stack", help="As a ZenML pipeline on the active stack.")] = False,
) -> None:
    """Judge a version, and make it the champion if the gate lets it pass. Exits with 3 if not."""
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
    to: Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Version; default: the one that had the alias before.")] = None,
    alias: Annotated[str, typer.Option("--alias", help="Alias to give back.")] = "champion",
    reason: Reason = "",
) -> None:
    """Give the alias back to the version that had it before."""
    from cli.printing.registry import print_history
    from runs.promotion import rollback as act

    entry = act(name, alias=alias, to=to, reason=reason)
    print_history([entry])
    answer({"status": "completed", "name": name, "history": asdict(entry)})


@guarded
def history(name: Name) -> None:
    """Who made which version the champion, when and why."""
    from cli.printing.registry import print_history
    from runs.promotion import read_history

    entries = read_history(name)
    print_history(entries)
    answer({"status": "completed", "name": name, "history": [asdict(entry) for entry in entries]})


@guarded
def prune(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Registered model; default: all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only listed.")] = False,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Newest versions of each model that are kept in any case.")] = 3,
) -> None:
    """List, or with --yes delete, the versions that no alias, no history and no run needs."""
    from cli.printing.registry import print_pruning
    from runs.promotion import prune as act

    pruned = act(name, keep=keep, delete=yes)
    print_pruning(pruned, deleted=yes)
    answer({"status": "completed", "deleted": yes, "versions": [asdict(item) for item in pruned]})
