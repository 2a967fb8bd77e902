"""The command for scheduled retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, Format, LogFormat, Verbose, guarded, print_json
from components.core.notify import WEBHOOK_VARIABLE


@guarded
def retrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Run configuration for all style sets.")],
    source: Annotated[str, typer.Option("--source", metavar="URL", help="Folder or bucket; each sub-folder is a style set.")],
    alias: Annotated[str, typer.Option("--to", metavar="ALIAS", help="Alias that a version gets if the gate lets it pass.")] = "champion",
    gate: Annotated[Path | None, typer.Option("--gate", metavar="YAML", help="Rules; default: configs/gate.yaml.")] = None,
    no_promote: Annotated[bool, typer.Option("--no-promote", help="Only train and register; ask no gate.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override one setting of all sets; may be repeated.")
    ] = None,
    webhook_env: Annotated[
        str, typer.Option("--webhook-env", metavar="NAME", help="Variable with the address of a webhook that takes Slack's JSON.")
    ] = WEBHOOK_VARIABLE,
    settings: Annotated[Path | None, typer.Option("--settings", metavar="YAML", help="Where steps run; default: zenml.yaml.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Train each new or changed style set once, and promote what the gate lets pass. Exits with 1 if a set failed."""
    from cli.printing.retrain import print_retraining
    from runs.retraining import Request
    from runs.retraining import retrain as act

    result = act(Request(config, source, tuple(overrides or ()), alias, gate, not no_promote, dry_run, webhook_env, settings, verbose))
    print_retraining(result)
    if as_json:
        print_json(result.as_dict())
    if result.exit_code:
        raise typer.Exit(result.exit_code)
