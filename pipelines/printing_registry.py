"""How decisions of the registry look to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from pipelines.printing import make_console, make_table

if TYPE_CHECKING:
    from components.registry.history import Entry
    from components.registry.promotion import Promotion
    from components.registry.retention import Unneeded

_MARKS = {"pass": ("✓", "green"), "refuse": ("✗", "red"), "undecided": ("?", "yellow")}


def print_promotion(result: Promotion) -> None:
    """The gate's rules with their figures, and what became of the version."""
    out = make_console()
    for rule in result.gate.rules:
        out.print(Text.assemble(_MARKS[rule.verdict], f" {rule.message}"))
    if result.rescored:
        out.print(Text(f"version {result.champion} was drawn and scored again, as {result.source} had been"))
    out.print(Text(_outcome(result)))


def _outcome(result: Promotion) -> str:
    title = f"{result.name} version {result.version}" if result.version else f"{result.source}, as a new version of {result.name},"
    if result.promoted:
        if result.entry is None:
            return f"{title} is @{result.alias} already"
        before = f", in place of version {result.champion}" if result.champion else ""
        forced = f" by force ({result.entry.reason})" if result.forced else ""
        return f"{title} is @{result.alias} now{before}{forced}"
    if result.dry_run and result.passed:
        return f"{title} would become @{result.alias}{' by force' if result.forced else ''}; nothing was changed"
    stays = f"version {result.champion} stays" if result.champion else "nobody is"
    advice = "overrule the gate with --force --reason, or " if result.gate.verdict == "undecided" else ""
    better = "score more pictures (sampling.repeats)" if result.gate.verdict == "undecided" else "see the rules above"
    return f"{result.source} is not promoted ({result.gate.verdict}): {stays} @{result.alias}; {advice}{better}"


def print_history(entries: Sequence[Entry]) -> None:
    """A line an entry, oldest first."""
    if not entries:
        make_console().print("no version was promoted yet; `styleforge promote MODEL` makes the first entry")
        return
    rows = make_table("no.", "what", "version", "before", "alias", "when", "who", "why", "from")
    for entry in entries:
        what = entry.action + (" by force" if entry.forced else "") + ("" if entry.state == "done" else f" ({entry.state})")
        origin = ", ".join(filter(None, [entry.source, entry.ci]))
        cells = (str(entry.number), what, entry.version, entry.before or "–", entry.alias, entry.when, entry.who, entry.reason, origin)
        rows.add_row(*(Text(cell) for cell in cells))
    make_console().print(rows)


def print_pruning(items: Sequence[Unneeded], *, deleted: bool) -> None:
    """What is not needed, with its size, and how to have it deleted."""
    if not items:
        make_console().print("nothing to prune: an alias, the history or a run needs every version, or it is among the newest")
        return
    rows = make_table("model", "version", "created", "MB", "why not needed")
    for item in items:
        size = "–" if item.bytes is None else f"{item.bytes / 1e6:.1f}"
        rows.add_row(*(Text(cell) for cell in (item.name, item.version or "–", item.created, size, item.reason)))
    make_console().print(rows)
    total = sum(item.bytes or 0 for item in items) / 1e6
    make_console().print(f"{len(items)} deleted, {total:.1f} MB" if deleted else f"{len(items)}, {total:.1f} MB; --yes deletes them")
