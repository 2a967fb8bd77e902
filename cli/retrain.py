"""The command for scheduled retraining."""

from typing import Annotated

import typer

from cli.options import Champion, Config, Gate, Overrides, Settings, answer, guarded
from components.core.notify import WEBHOOK_VARIABLE


@guarded
def retrain(
    config: Config,
    source: Annotated[str, typer.Option("--source", metavar="URL", help="Folder or bucket; each subfolder is a style set.")],
    alias: Champion = "champion",
    gate: Gate = None,
    no_promote: Annotated[bool, typer.Option("--no-promote", help="Only train and register; skip the gate.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what would be trained.")] = False,
    overrides: Overrides = None,
    webhook_env: Annotated[
        str, typer.Option("--webhook-env", metavar="NAME", help="Environment variable with the URL of a webhook that accepts Slack's JSON.")
    ] = WEBHOOK_VARIABLE,
    settings: Settings = None,
) -> None:
    """Train each new or changed style set once, and promote models that pass the gate. Exits with 1 if a set failed."""
    from cli.printing.registry import print_retraining
    from runs.retraining import RetrainRequest
    from runs.retraining import retrain as act

    result = act(RetrainRequest(config, source, tuple(overrides or ()), alias, gate, not no_promote, dry_run, webhook_env, settings))
    print_retraining(result)
    answer(result.as_dict())
    if result.exit_code:
        raise typer.Exit(result.exit_code)
