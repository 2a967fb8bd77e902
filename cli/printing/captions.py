"""How captions look to people: a line a picture that was not simply kept, and what it comes to."""

from collections.abc import Mapping
from typing import Any

from cli.printing.scores import print_table, say


def print_captions(result: Mapping[str, Any]) -> None:
    """Every picture of a dry run, else those that were looked at; the counts, and the files that were written."""
    rows = [
        (row["path"], row["done"], row["problem"] or row["caption"] or "", row["by"] or "")
        for row in result["pictures"]
        if result["dry_run"] or row["done"] != "kept"
    ]
    if rows:
        print_table(("picture", "", "caption", "by"), rows)
    say(", ".join(f"{count} {done}" for done, count in result["counts"].items()))
    for file in result["files"]:
        say(f"wrote {file}")
