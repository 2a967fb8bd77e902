"""``styleforge base``: the text-to-image models to start from."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def base() -> None:
    """Text-to-image models to start from."""


@app.command()
@guarded
def pin(
    model: Annotated[str, typer.Argument(metavar="HUBID", help="Model on the Hugging Face Hub: owner/name.")],
    config: Annotated[Path | None, typer.Option("--config", metavar="YAML", help="Configuration to write to; default: only print.")] = None,
    ref: Annotated[str, typer.Option("--ref", metavar="BRANCH", help="Branch or tag to pin.")] = "main",
) -> None:
    """Pin a hub model: write it and its current commit into a configuration, as base.model and base.revision."""
    from components.core.config import read_yaml_mapping
    from components.core.config.edit import write_settings
    from components.diffusion.models.sources import pin as pin_model

    if config:
        read_yaml_mapping(config)
    commit, family = pin_model(model, ref)
    if config:
        write_settings(config, "base", {"model": model, "revision": commit})
        typer.echo(f"{config}: base.model is {model}, a {family} base, pinned to {commit}")
    else:
        typer.echo(f"base:\n  model: {model}\n  revision: {commit}")
    answer({"status": "completed", "model": model, "revision": commit, "family": family, "config": str(config) if config else None})
