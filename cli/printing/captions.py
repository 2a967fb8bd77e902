"""How captions look to people: a line a picture that was not simply kept, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from cli.printing.scores import make_console, make_table


def print_captions(result: Mapping[str, Any]) -> None:
    """Every picture of a dry run, else those that were looked at; the counts, and the files that were written."""
    console = make_console()
    table = make_table("picture", "", "caption", "by")
    for row in result["pictures"]:
        if result["dry_run"] or row["done"] != "kept":
            table.add_row(Text(row["path"]), row["done"], Text(row["problem"] or row["caption"] or ""), Text(row["by"] or ""))
    if table.row_count:
        console.print(table)
    console.print(Text(", ".join(f"{count} {done}" for done, count in result["counts"].items())))
    for file in result["files"]:
        console.print(Text(f"wrote {file}"))
