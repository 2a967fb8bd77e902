"""A run and its gate as a short Markdown text, fit for a comment on a pull request: pictures, scores, rules, links."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.core.metrics import score_rows

MARKS = {"pass": "✓", "refuse": "✗", "undecided": "?"}
_WORDS = {"pass": "passed", "refuse": "refused", "undecided": "undecided"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#!|~$&])")
# A forge would notify people and link issues that a prompt or a name happens to mention.
_MENTION = re.compile(r"([@#])(?=\w)")


def summary_markdown(
    result: Mapping[str, Any] | None,
    gate: Mapping[str, Any] | None,
    *,
    title: str = "",
    grid: str | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """A heading and what ``styleforge run --json`` and ``promote --json`` printed, if given; links without a web address are left out."""
    parts = [f"### {escaped(title) or _model_text(result, gate) or 'StyleForge'}"]
    if result is not None:
        parts += _run_parts(result, grid, named=bool(title))
    if gate is not None:
        parts += _gate_parts(gate)
    shown = [f"[{escaped(text)}]({_address(url)})" for text, url in links if re.match(r"https?://", url)]
    if shown:
        parts.append(" · ".join(shown))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """``text`` on one line, with nothing in it that Markdown, a forge's mentions or a table would read as theirs."""
    return _MENTION.sub("\\1\u200b", _SPECIAL.sub(r"\\\1", " ".join(text.split())))


def fenced(text: str) -> str:
    """``text`` as a code block that it cannot leave."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}text\n{text.strip()}\n{fence}"


def _address(url: str) -> str:
    return re.sub(r"[\s()<>]", lambda found: f"%{ord(found[0]):02X}", url)


def _model_text(result: Mapping[str, Any] | None, gate: Mapping[str, Any] | None) -> str:
    model = (result or {}).get("model") or (gate or {}).get("model") or {}
    if not model.get("name"):
        return ""
    text = f"{escaped(str(model['name']))} version {escaped(str(model.get('version')))}"
    return f"{text}, alias {escaped(str(model['alias']))}" if model.get("alias") else text


def _run_parts(result: Mapping[str, Any], grid: str | None, named: bool) -> list[str]:
    if result.get("status") != "completed":
        return [f"**The run was {'refused' if result.get('status') == 'refused' else 'not finished'}.**", _error(result)]
    parts = [_model_text(result, None)] if named else []
    if grid:
        parts.append(f"![The same prompts drawn by the base and by the style model]({_address(grid)})")
    steps, cached = len(result.get("seconds") or {}), len(result.get("cached") or ())
    parts.append(_score_table(result.get("scores") or {}, result.get("base_scores") or {}))
    level = f"{100 * float(result.get('confidence', 0.95)):g} % intervals"
    return [*parts, f"{level}. {result.get('total_seconds', 0):.0f} s; {cached} of {steps} steps from the cache."]


def _score_table(style: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    rows = ["| score | style model | base | pictures |", "| --- | --- | --- | --- |"]
    rows += [f"| {' | '.join(cells)} |" for cells in score_rows(style, base)]
    return "\n".join(rows)


def _gate_parts(gate: Mapping[str, Any]) -> list[str]:
    verdict = (gate.get("gate") or {}).get("verdict")
    if verdict not in MARKS:
        return ["**Gate: no verdict.**", _error(gate)]
    rules = ["| rule | verdict | why |", "| --- | --- | --- |"]
    for rule in gate["gate"].get("rules") or ():
        mark = MARKS.get(rule.get("verdict", ""), "?")
        rules.append(f"| {escaped(str(rule.get('name')))} | {mark} {rule.get('verdict')} | {escaped(str(rule.get('message') or ''))} |")
    head = f"**Gate: {MARKS[verdict]} {_WORDS[verdict]}.** {_outcome(gate, verdict)}"
    return [head, "\n".join(rules)] if len(rules) > 2 else [head]


def _outcome(gate: Mapping[str, Any], verdict: str) -> str:
    champion = gate.get("champion") or {}
    against = f"The champion is version {escaped(str(champion['version']))}." if champion.get("version") else "There is no champion yet."
    if gate.get("promoted"):
        return "The model was promoted." if verdict == "pass" else "The model was promoted all the same, by force."
    return f"{against} A dry run: nothing was changed." if gate.get("dry_run") else f"{against} Nothing was changed."


def _error(answer: Mapping[str, Any]) -> str:
    return fenced(str((answer.get("error") or {}).get("message") or "no reason was given"))
