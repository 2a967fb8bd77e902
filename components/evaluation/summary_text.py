"""A run and its gate as short Markdown for a pull request comment: pictures, scores, rules, links."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.metrics import score_rows
from components.core.pages import escaped, render

MARKS = {"pass": "✓", "refuse": "✗", "undecided": "?"}


def summary_markdown(
    result: Mapping[str, Any] | None,
    gate: Mapping[str, Any] | None,
    *,
    title: str = "",
    grid: str | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Render what ``styleforge run --json`` and ``promote --json`` printed, if given, under a heading; only links to the web are kept."""
    of_run = _model_text((result or {}).get("model") or {})
    verdict = ((gate or {}).get("gate") or {}).get("verdict")
    page = {
        "result": result, "gate": gate, "title": title, "grid": grid, "verdict": verdict, "marks": MARKS, "model_of_run": of_run,
        "model": of_run or _model_text((gate or {}).get("model") or {}), "outcome": _outcome(gate or {}, verdict),
        "scores": score_rows((result or {}).get("scores") or {}, (result or {}).get("base_scores") or {}),
        "links": [(text, url) for text, url in links if url.startswith(("http://", "https://"))],
    }  # fmt: skip
    return render(Path(__file__).parent / "templates" / "summary.md.j2", page)


def _model_text(model: Mapping[str, Any]) -> str:
    if not model.get("name"):
        return ""
    alias = f", alias {escaped(model['alias'])}" if model.get("alias") else ""
    return f"{escaped(model['name'])} version {escaped(model.get('version'))}{alias}"


def _outcome(gate: Mapping[str, Any], verdict: str | None) -> str:
    if gate.get("promoted"):
        return "The model was promoted." if verdict == "pass" else "The model was promoted all the same, by force."
    champion = gate.get("champion") or {}
    against = f"The champion is version {escaped(champion['version'])}." if champion.get("version") else "There is no champion yet."
    return f"{against} {'A dry run: nothing' if gate.get('dry_run') else 'Nothing'} was changed."
