"""The commands about registered versions: promote, history, rollback, prune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, Format, LogFormat, Verbose, guarded, print_json

Version = Annotated[str, typer.Argument(metavar="MODEL", help="Registered name (its newest version), name@alias or name/version.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Registered model.")]
Alias = Annotated[str, typer.Option("--to", metavar="ALIAS", help="Alias that the version is to get.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; goes on record.")]


@guarded
def promote(
    model: Version,
    alias: Alias = "champion",
    gate: Annotated[Path | None, typer.Option("--gate", metavar="YAML", help="Rules; default: configs/gate.yaml.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge; exit as if it were for real.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote whatever the gate says; needs --reason.")] = False,
    reason: Reason = "",
    on_stack: Annotated[bool, typer.Option("--on-stack", help="As a ZenML pipeline on the active stack.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Judge a version, and make it the champion if the gate lets it pass. Exits with 3 if not."""
    from cli.printing.registry import print_promotion
    from runs.promotion import Request
    from runs.promotion import promote as act

    result = act(Request(model, alias, gate, dry_run, force, reason, on_stack, verbose))
    print_promotion(result)
    if as_json:
        print_json(result)
    if result["status"] != "completed":
        raise typer.Exit(3)


@guarded
def rollback(
    name: Name,
    to: Annotated[str | None, typer.Option("--to", metavar="VERSION", help="Version; default: the one that had the alias before.")] = None,
    alias: Annotated[str, typer.Option("--alias", help="Alias to give back.")] = "champion",
    reason: Reason = "",
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Give the alias back to the version that had it before."""
    from cli.printing.registry import print_history
    from runs.promotion import rollback as act

    entry = act(name, alias=alias, to=to, reason=reason, verbose=verbose)
    print_history([entry])
    if as_json:
        print_json({"status": "completed", "name": name, "history": entry.as_dict()})


@guarded
def history(name: Name, as_json: AsJson = False, verbose: Verbose = False, log_format: Format = LogFormat.human) -> None:
    """Who made which version the champion, when and why."""
    from cli.printing.registry import print_history
    from runs.promotion import read_history

    entries = read_history(name, verbose=verbose)
    print_history(entries)
    if as_json:
        print_json({"status": "completed", "name": name, "history": [entry.as_dict() for entry in entries]})


@guarded
def prune(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Registered model; default: all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only listed.")] = False,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Newest versions of each model that are kept in any case.")] = 3,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """List, or with --yes delete, the versions that no alias, no history and no run needs."""
    from cli.printing.registry import print_pruning
    from runs.promotion import prune as act

    pruned = act(name, keep=keep, delete=yes, verbose=verbose)
    print_pruning(pruned, deleted=yes)
    if as_json:
        print_json({"status": "completed", "deleted": yes, "versions": [item.as_dict() for item in pruned]})


def mount(app: typer.Typer) -> None:
    """Add the commands to ``styleforge``."""
    for command in (promote, rollback, history, prune):
        app.command()(command)
