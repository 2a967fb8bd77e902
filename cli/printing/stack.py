"""How stacks look to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from cli.printing.scores import make_console, make_table

if TYPE_CHECKING:
    from orchestration.stacks import Applied


def print_applied(result: Applied) -> None:
    """A line a component, then the stack's, then what stands in the way of using it."""
    out = make_console()
    rows = make_table("component", "name", "flavor", "", "fields")
    for item in result.components:
        rows.add_row(*(Text(cell) for cell in (item.type, item.name, item.flavor, item.action, ", ".join(item.fields))))
    out.print(rows)
    for warning in result.warnings:
        out.print(Text(f"note: {warning}"))
    out.print(Text(_outcome(result)))


def _outcome(result: Applied) -> str:
    if not result.changed:
        return f"stack {result.stack} is as defined; nothing to change{' and active' if result.active else ''}"
    what = result.action if result.action != "unchanged" else "unchanged itself"
    active = " and active now" if result.activated else "" if result.active else "; --activate makes runs use it"
    if result.dry_run:
        return f"stack {result.stack}: {what}{' and activated' if result.activated else ''}, if it were applied; nothing was changed"
    return f"stack {result.stack}: {what}{active}"


def print_stacks(stacks: Sequence[Mapping[str, Any]], definitions: Sequence[str]) -> None:
    """A line a component."""
    rows = make_table("stack", "", "component", "name", "flavor")
    for stack in stacks:
        title, mark = stack["name"], "active" if stack["active"] else ""
        for item in stack["components"]:
            rows.add_row(*(Text(cell) for cell in (title, mark, item["type"], item["name"], item["flavor"])))
            title = mark = ""
    out = make_console()
    out.print(rows)
    out.print(Text(f"definitions for `styleforge stack apply`: {', '.join(definitions)}"))


def print_removed(result: Mapping[str, Any]) -> None:
    """What went, what stayed and why."""
    out = make_console()
    for item in result["removed"]:
        out.print(Text(f"removed {item['type']} {item['name']} ({item['flavor']})"))
    for item in result["kept"]:
        out.print(Text(f"kept {item['type']} {item['name']}, which {item['reason']}"))
    out.print(Text(f"removed stack {result['stack']}"))
