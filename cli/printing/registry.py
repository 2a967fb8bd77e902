"""How decisions of the registry, and the retraining that leads to them, look to people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from cli.printing.scores import print_table, say
from components.registry.history import Entry
from components.registry.retention import Unneeded
from runs.retraining import Retraining

_STYLES = {"promoted": "green", "failed": "red", "stopped": "red", "refused": "yellow", "undecided": "yellow"}
_MARKS = {"pass": ("✓", "green"), "refuse": ("✗", "red"), "undecided": ("?", "yellow")}


def print_promotion(result: Mapping[str, Any]) -> None:
    """The gate's rules with their figures, and what became of the version; of a promotion as plain data."""
    for rule in result["gate"]["rules"]:
        say(Text.assemble(_MARKS[rule["verdict"]], f" {rule['message']}"))
    if result["rescored"]:
        say(f"version {result['champion']['version']} was sampled and scored again, as {result['model']['source']} had been")
    say(_outcome(result))


def _outcome(result: Mapping[str, Any]) -> str:
    model, alias, verdict = result["model"], result["alias"], result["gate"]["verdict"]
    champion = (result["champion"] or {}).get("version")
    title = f"{model['name']} version {model['version']}" if model["version"] else f"{model['source']}, as a version of {model['name']},"
    if result["promoted"]:
        if result["history"] is None:
            return f"{title} is already @{alias}"
        before = f", in place of version {champion}" if champion else ""
        forced = f" by force ({result['history']['reason']})" if result["forced"] else ""
        return f"{title} is now @{alias}{before}{forced}"
    if result["status"] == "completed":
        return f"{title} would become @{alias}{' by force' if result['forced'] else ''}; nothing was changed"
    stays = f"version {champion} stays @{alias}" if champion else f"there is no @{alias} yet"
    if verdict == "undecided":
        advice = 'score more images (sampling.repeats), or overrule the gate with --force --reason "..."'
    else:
        advice = "the rules marked above say by how much"
    return f"{model['source']} is not promoted ({verdict}): {stays}; {advice}"


def print_history(entries: Sequence[Entry]) -> None:
    """A line an entry, oldest first."""
    if not entries:
        say("no version has been promoted yet; `styleforge promote MODEL` makes the first entry")
        return
    rows = []
    for entry in entries:
        what = entry.action + (" by force" if entry.forced else "") + ("" if entry.state == "done" else f" ({entry.state})")
        origin = ", ".join(filter(None, [entry.source, entry.ci]))
        before = entry.before or "–"
        rows.append([str(entry.number), what, entry.version, before, entry.alias, entry.when, entry.who, entry.reason, origin])
    print_table(("no.", "what", "version", "before", "alias", "when", "who", "why", "from"), rows)


def print_pruning(items: Sequence[Unneeded], *, deleted: bool) -> None:
    """What is not needed, with its size, and how to have it deleted."""
    if not items:
        say("nothing to prune: an alias, the history or a run needs every version, or it is among the newest")
        return
    sizes = ["–" if item.bytes is None else f"{item.bytes / 1e6:.1f}" for item in items]
    rows = [[item.name, item.version or "–", item.created, size, item.reason] for item, size in zip(items, sizes, strict=True)]
    print_table(("model", "version", "created", "MB", "why not needed"), rows)
    total = sum(item.bytes or 0 for item in items) / 1e6
    say(f"{len(items)} deleted, {total:.1f} MB" if deleted else f"{len(items)}, {total:.1f} MB; --yes deletes them")


def print_retraining(result: Retraining) -> None:
    """A line a set, and how many there are of each kind."""
    rows = [
        [item.name, Text(item.status, _STYLES.get(item.status, "")), item.version or "–", f"{item.seconds:.0f}", item.message]
        for item in result.sets
    ]
    print_table(("set", "what", "version", "seconds", ""), rows)
    say(", ".join(f"{count} {status}" for status, count in result.as_dict()["counts"].items()))
