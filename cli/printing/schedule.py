"""How schedules look to people."""

from collections.abc import Sequence

import yaml
from rich.text import Text

from cli.printing.scores import print_table, say
from components.cluster.applied import Applied, Entry


def print_applied(result: Applied) -> None:
    """What became of it, when it starts, and what the pod would miss; in a dry run the objects as YAML."""
    if result.dry_run:
        say(yaml.safe_dump_all(result.objects, sort_keys=False, allow_unicode=True).rstrip())
    would = "would be " if result.dry_run else ""
    say(f"{result.name} in {result.namespace}: {would}{result.status}{' (suspended)' if result.suspended else ''}")
    if result.next:
        say(f"next  {', '.join(result.next)}")
    if result.missing:
        say(Text(f"the pod will not start, missing: {', '.join(result.missing)}", "yellow"))


def print_schedules(entries: Sequence[Entry]) -> None:
    """A line a schedule."""
    rows = []
    for entry in entries:
        state = "suspended" if entry.suspended else f"{entry.active} running" if entry.active else "active"
        times = (entry.last or "–", entry.last_success or "–", "\n".join(entry.next))
        rows.append([entry.name, entry.cron, entry.time_zone, state, *times, entry.source])
    print_table(("schedule", "cron", "zone", "state", "last start", "last success", "next", "source"), rows)
