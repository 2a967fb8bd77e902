"""``styleforge base``: the text-to-image models to start from."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded
from components.bases.bases import BASES, BaseName

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
BaseArgument = Annotated[BaseName, typer.Argument(metavar="BASE", help="Embedded base: pocket, pocket-flow or art.")]
PARTS = {name: tuple(base.minutes) for name, base in BASES.items()}
CHECKS = {name: base.checks for name, base in BASES.items()}


def _any_of(names: dict[str, tuple[str, ...]]) -> str:
    return "Any of " + ", ".join(dict.fromkeys(name for found in names.values() for name in found)) + "; default: all of the base."


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


@app.command()
@guarded
def train(
    base: BaseArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the weights; default: the package's own.")] = None,
    part: Annotated[list[str] | None, typer.Option("--part", help=_any_of(PARTS))] = None,
    minutes: Annotated[list[str] | None, typer.Option("--minutes", metavar="PART=N", help="Time budget of a part, in minutes.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: CUDA if available.")] = None,
    go_on: Annotated[bool, typer.Option("--continue", help="Train the denoiser and the decoder of the weights in --out further.")] = False,
) -> None:
    """Train an embedded base; resumable at any time. pocket-flow starts from pocket's VAE and text encoder, art from pocket-flow's VAE."""
    budget = dict(_budget(item, PARTS[base]) for item in minutes or ())
    from components.core.paths import embedded_weights
    from runs.bases import train as train_parts

    folder = train_parts(out or embedded_weights("base").parent, base, parts=part, minutes=budget, device=device, go_on=go_on)
    typer.echo(f"weights are in {folder}")
    answer({"status": "completed", "folder": str(folder)})


def _budget(item: str, parts: tuple[str, ...]) -> tuple[str, float]:
    from components.core.errors import InputError

    part, _, number = item.partition("=")
    try:
        if part not in parts:
            raise ValueError
        return part, float(number)
    except ValueError as error:
        raise InputError(
            f"--minutes {item}", "not of the form PART=N", expected=f"for example vae=60; parts: {', '.join(parts)}"
        ) from error


@app.command()
@guarded
def check(
    base: BaseArgument,
    part: Annotated[list[str] | None, typer.Option("--part", help=_any_of(CHECKS))] = None,
    sheets: Annotated[Path | None, typer.Option("--sheets", help="Folder for contact sheets of the generated images.")] = None,
) -> None:
    """Measure the built-in weights against their quality bars. Exits with 1 if one is missed."""
    from orchestration.environment import prepare_environment

    prepare_environment()
    from cli.printing.scores import print_bars
    from components.core.errors import InputError
    from runs.bases import check as measure

    for name in part or ():
        if name not in CHECKS[base]:
            raise InputError(f"--part {name}", f"no such check of {base}", expected=f"one of {', '.join(CHECKS[base])}")
    bars = measure(base, part or CHECKS[base], lambda line: typer.echo(line, err=True), sheets=sheets)
    print_bars(bars)
    reached = all(bar.passed for bar in bars)
    answer({"status": "completed" if reached else "failed", "bars": [vars(bar) for bar in bars]})
    if not reached:
        raise typer.Exit(1)
