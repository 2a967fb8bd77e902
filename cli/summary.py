"""``styleforge summary``: what a run and its gate came to, for a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded


@guarded
def summary(
    out: Annotated[Path, typer.Option("--out", help="Folder for summary.md, grid.png and report.html.")],
    result: Annotated[
        Path | None, typer.Argument(metavar="[RESULT]", help="File with what `styleforge run --json` printed.", show_default=False)
    ] = None,
    gate: Annotated[Path | None, typer.Option("--gate", help="File with what `styleforge promote --json` printed.")] = None,
    title: Annotated[str, typer.Option("--title", help="Heading of the text; default: the model's name.")] = "",
    link: Annotated[list[str] | None, typer.Option("--link", metavar="TEXT=URL", help="Another link; may be repeated.")] = None,
) -> None:
    """Write a run's pictures, scores and gate as Markdown for a pull request, with the picture grid and the report beside it."""
    from runs.summary import summarize

    files = summarize(result, gate, out, title=title, links=link or ())
    for path in files.values():
        if path:
            typer.echo(path)
    answer({"status": "completed", **files})
