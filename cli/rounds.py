"""The command that makes the style set of a second round."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded


@guarded
def next_round(
    drawn: Annotated[list[Path], typer.Argument(metavar="DRAWN...", help="Folders that `styleforge sample` wrote.")],
    style_set: Annotated[Path, typer.Option("--style-set", metavar="FOLDER", help="The style set of the round before.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the style set of the next round.")],
    picks: Annotated[Path | None, typer.Option("--picks", metavar="FILE", help="A person's picks: a picture's name a line.")] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="Let the machine pick so many, at most one a prompt.")] = None,
    extractor: Annotated[
        str, typer.Option("--extractor", help="What the machine reads the style by; best not what the run is scored by.")
    ] = "look",
    alone: Annotated[bool, typer.Option("--alone", help="The picks are all of StyleRef; default: they join it.")] = False,
) -> None:
    """Turn picked drawings into the style set of a next round of training."""
    from runs.rounds import RoundOptions
    from runs.rounds import next_round as run

    result = run(RoundOptions(drawn, style_set, out, picks, count, extractor, alone))
    for file in result["picked"]:
        typer.echo(file)
    typer.echo(f"{result['folder']}: {result['style_ref']} StyleRef pictures, {len(result['picked'])} of them picked", err=True)
    answer({"status": "completed", **result})
