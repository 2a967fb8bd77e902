"""``styleforge pocket``: the small world that everything can be tried in."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def pocket() -> None:
    """The pocket world."""


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
