"""The command that makes the style set of a second round."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded


@guarded
def next_round(
    drawn: Annotated[list[Path], typer.Argument(metavar="DRAWN...", help="Folders that `styleforge sample` wrote.")],
    style_set: Annotated[Path, typer.Option("--style-set", metavar="FOLDER", help="Style set of the previous round.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the style set of the next round.")],
    picks: Annotated[
        Path | None, typer.Option("--picks", metavar="FILE", help="File with a person's picks, one image name per line.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Pick this many images automatically, at most one per prompt.")
    ] = None,
    extractor: Annotated[
        str, typer.Option("--extractor", help="Style extractor for automatic picks; preferably not the one that scores the run.")
    ] = "look",
    alone: Annotated[bool, typer.Option("--alone", help="Use only the picks as StyleRef; default: add them to it.")] = False,
) -> None:
    """Turn picked images into the style set for the next round of training."""
    from runs.rounds import RoundOptions
    from runs.rounds import next_round as run

    result = run(RoundOptions(drawn, style_set, out, picks, count, extractor, alone))
    for file in result["picked"]:
        typer.echo(file)
    typer.echo(f"{result['folder']}: {result['style_ref']} StyleRef images, {len(result['picked'])} of them picked", err=True)
    answer({"status": "completed", **result})
