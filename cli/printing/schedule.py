"""How schedules look to people."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from rich.text import Text

from cli.printing.scores import make_console, make_table
from components.cluster.applied import Applied, Entry


def print_applied(result: Applied) -> None:
    """What became of it, when it starts, and what the pod would miss; in a dry run the objects as YAML."""
    console = make_console()
    if result.dry_run:
        console.print(Text(yaml.safe_dump_all(result.objects, sort_keys=False, allow_unicode=True)), end="")
    would = "would be " if result.dry_run else ""
    console.print(Text(f"{result.name} in {result.namespace}: {would}{result.status}{' (suspended)' if result.suspended else ''}"))
    if result.next:
        console.print(Text(f"next  {', '.join(result.next)}"))
    if result.missing:
        console.print(Text(f"the pod will not start, missing: {', '.join(result.missing)}", "yellow"))


def print_schedules(entries: Sequence[Entry]) -> None:
    """A line a schedule."""
    table = make_table("schedule", "cron", "zone", "state", "last start", "last success", "next", "source")
    for entry in entries:
        state = "suspended" if entry.suspended else f"{entry.active} running" if entry.active else "active"
        following = "\n".join(entry.next)
        cells = (entry.name, entry.cron, entry.time_zone, state, entry.last or "–", entry.last_success or "–", following, entry.source)
        table.add_row(*(Text(cell) for cell in cells))
    make_console().print(table)
