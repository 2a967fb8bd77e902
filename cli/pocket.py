"""``styleforge pocket``: the small world that everything can be tried in."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded
from components.bases.bases import BASES, BaseName

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
BaseOption = Annotated[BaseName, typer.Option("--base", help="unet: `base.model: pocket`; flow: `pocket-flow`; art: `art`.")]
PARTS = {name: tuple(base.minutes) for name, base in BASES.items()}
CHECKS = {name: base.checks for name, base in BASES.items()}


def _any_of(names: dict[str, tuple[str, ...]]) -> str:
    return "Any of " + ", ".join(dict.fromkeys(name for found in names.values() for name in found)) + "; default: all parts of the base."


@app.command()
@guarded
def render(
    style: Annotated[str, typer.Option("--style", help="Target style: realism, sureb, anime, romanticism, cubism or pixel-art.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the images.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the scenes.")] = 0,
    reference: Annotated[int, typer.Option("--reference", min=0, help="Number of held-out reference images.")] = 400,
) -> None:
    """Write a style set like one made by a user: StyleRef, Aux pool, reference and captions."""
    from components.pocket.render import render_dataset

    folder = render_dataset(style, out, seed=seed, reference=reference)
    typer.echo(f"rendered {style} into {folder}")
    answer({"status": "completed", "folder": str(folder)})


@app.command()
@guarded
def train(
    base: BaseOption = "unet",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the weights; default: the package's own.")] = None,
    part: Annotated[list[str] | None, typer.Option("--part", help=_any_of(PARTS))] = None,
    minutes: Annotated[list[str] | None, typer.Option("--minutes", metavar="PART=N", help="Time budget of a part, in minutes.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: CUDA if available.")] = None,
    go_on: Annotated[bool, typer.Option("--continue", help="Start the denoiser from the weights in --out.")] = False,
) -> None:
    """Train an embedded base; resumable at any time. The flow base starts from the UNet base's VAE and text encoder, the art base from
    the flow base's VAE."""
    budget = dict(_budget(item, PARTS[base]) for item in minutes or ())
    from components.core.paths import embedded_weights
    from runs.bases import train as train_parts

    folder = train_parts(
        out or embedded_weights("base").parent, base, parts=part or PARTS[base], minutes=budget, device=device, go_on=go_on
    )
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
    base: BaseOption = "unet",
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
            raise InputError(f"--part {name}", f"no such check of the {base} base", expected=f"one of {', '.join(CHECKS[base])}")
    bars = measure(base, part or CHECKS[base], lambda line: typer.echo(line, err=True), sheets=sheets)
    print_bars(bars)
    reached = all(bar.passed for bar in bars)
    answer({"status": "completed" if reached else "failed", "bars": [vars(bar) for bar in bars]})
    if not reached:
        raise typer.Exit(1)
