"""How stacks look to people."""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.printing.scores import print_table, say
from orchestration.stacks import Applied


def print_applied(result: Applied) -> None:
    """A line a component, then the stack's, then what stands in the way of using it."""
    rows = ([item.type, item.name, item.flavor, item.action, ", ".join(item.fields)] for item in result.components)
    print_table(("component", "name", "flavor", "", "fields"), rows)
    say(*(f"note: {warning}" for warning in result.warnings), _outcome(result))


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
    rows = []
    for stack in stacks:
        title, active = stack["name"], "active" if stack["active"] else ""
        for item in stack["components"]:
            rows.append([title, active, item["type"], item["name"], item["flavor"]])
            title = active = ""
    print_table(("stack", "", "component", "name", "flavor"), rows)
    say(f"definitions for `styleforge stack apply`: {', '.join(definitions)}")


def print_removed(result: Mapping[str, Any]) -> None:
    """What went, what stayed and why."""
    say(*(f"removed {item['type']} {item['name']} ({item['flavor']})" for item in result["removed"]))
    say(*(f"kept {item['type']} {item['name']}, which {item['reason']}" for item in result["kept"]), f"removed stack {result['stack']}")
