"""How a retraining looks to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from cli.printing.scores import make_console, make_table

if TYPE_CHECKING:
    from runs.retraining import Retraining

_STYLES = {"promoted": "green", "failed": "red", "stopped": "red", "refused": "yellow", "undecided": "yellow"}


def print_retraining(result: Retraining) -> None:
    """A line a set, and how many there are of each kind."""
    table = make_table("set", "what", "version", "seconds", "")
    for item in result.sets:
        cells = (item.name, Text(item.status, _STYLES.get(item.status, "")), item.version or "–", f"{item.seconds:.0f}", item.message)
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    console = make_console()
    console.print(table)
    console.print(", ".join(f"{count} {status}" for status, count in result.as_dict()["counts"].items()))
