"""How restyled pictures look to people."""

from collections.abc import Mapping
from typing import Any

from cli.printing.scores import print_table, say


def print_restyled(result: Mapping[str, Any]) -> None:
    """The mean scores of each version of the pictures, and where the page is."""
    from components.evaluation.restyling import LABELS, MEASURES

    columns = ("", *(metric.title for metric in MEASURES.values()))
    print_table(
        columns,
        ([LABELS[version], *(MEASURES[name].interval(row[name]) for name in MEASURES)] for version, row in result["methods"].items()),
    )
    say(*(f"note: {note}" for note in result["notes"]), f"page    {result['page']}")
