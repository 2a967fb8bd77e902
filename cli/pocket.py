"""``styleforge pocket``: the small world that everything can be tried in."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
PARTS = ("vae", "evaluator", "unet", "decoder", "probe")
CHECKS = ("vae", "evaluator", "unet", "styles")


@app.command()
@guarded
def render(
    style: Annotated[str, typer.Option("--style", help="Target style: realism, sureb, anime, romanticism, cubism or pixel-art.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the pictures.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the scenes.")] = 0,
    reference: Annotated[int, typer.Option("--reference", min=0, help="Number of held-out reference pictures.")] = 400,
) -> None:
    """Write a style set as a user could have made it: StyleRef, Aux pool, reference and captions."""
    from components.pocket.render import render_dataset

    folder = render_dataset(style, out, seed=seed, reference=reference)
    typer.echo(f"rendered {style} into {folder}")
    answer({"status": "completed", "folder": str(folder)})


@app.command()
@guarded
def train(
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the weights; default: those of the package.")] = None,
    part: Annotated[list[str] | None, typer.Option("--part", help=f"Any of {', '.join(PARTS)}; default: all.")] = None,
    minutes: Annotated[list[str] | None, typer.Option("--minutes", metavar="PART=N", help="Time budget of a part, in minutes.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: CUDA where there is one.")] = None,
    go_on: Annotated[bool, typer.Option("--continue", help="Start the UNet from the weights in --out.")] = False,
) -> None:
    """Train the pocket base from scratch; resumable at any moment."""
    budget = dict(_budget(item) for item in minutes or ())
    from components.core.paths import pocket_weights
    from components.pocket.train import train as train_parts

    folder = train_parts(out or pocket_weights("base").parent, parts=part or PARTS, minutes=budget, device=device, go_on=go_on)
    typer.echo(f"weights are in {folder}")
    answer({"status": "completed", "folder": str(folder)})


def _budget(item: str) -> tuple[str, float]:
    from components.core.errors import InputError

    part, _, number = item.partition("=")
    try:
        if part not in PARTS:
            raise ValueError
        return part, float(number)
    except ValueError as error:
        raise InputError(
            f"--minutes {item}", "not of the form PART=N", expected=f"for example unet=60; parts: {', '.join(PARTS)}"
        ) from error


@app.command()
@guarded
def check(
    part: Annotated[list[str] | None, typer.Option("--part", help=f"Any of {', '.join(CHECKS)}; default: all.")] = None,
    sheets: Annotated[Path | None, typer.Option("--sheets", help="Folder for contact sheets of what was drawn.")] = None,
) -> None:
    """Measure the embedded weights against their quality bars."""
    from orchestration.environment import prepare_environment

    prepare_environment()
    from cli.printing.scores import print_bars
    from components.core.errors import InputError
    from runs.pocket import check as measure

    for name in part or ():
        if name not in CHECKS:
            raise InputError(f"--part {name}", "no such check", expected=f"one of {', '.join(CHECKS)}")
    bars = measure(part or CHECKS, lambda line: typer.echo(line, err=True), sheets=sheets)
    print_bars(bars)
    reached = all(bar.passed for bar in bars)
    answer({"status": "completed" if reached else "failed", "bars": [vars(bar) for bar in bars]})
    if not reached:
        raise typer.Exit(1)
