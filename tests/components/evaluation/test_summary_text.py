from typing import Any

import pytest
from markdown_it import MarkdownIt

from components.core.pages import escaped, fenced
from components.evaluation.summary_text import summary_markdown

SCORE = {"value": 0.125, "low": -0.026, "high": 0.265, "n": 128}
RESULT: dict[str, Any] = {
    "status": "completed",
    "model": {"name": "styleforge-anime", "version": "3", "alias": "pr-12"},
    "scores": {"kid": SCORE, "clip_t": {"value": 59.25, "low": 58.1, "high": 60.5, "n": 128}},
    "base_scores": {"kid": {"value": 2.381, "low": None, "high": None, "n": 128}},
    "seconds": {"scan": 0.0, "score": 2.0},
    "cached": ["scan"],
    "total_seconds": 61.4,
}
GATE: dict[str, Any] = {
    "status": "refused", "promoted": False, "dry_run": True, "model": RESULT["model"], "champion": {"name": "a", "version": "2"},
    "gate": {"verdict": "refuse", "rules": [
        {"name": "kid", "verdict": "pass", "message": "better"}, {"name": "drift", "verdict": "refuse", "message": "a | b\n<b>@team #4"},
        {"name": "seen", "verdict": "undecided", "message": None},
    ]},
}  # fmt: skip


def _html(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))


def test_scores_stand_beside_the_base_with_their_intervals() -> None:
    text = summary_markdown(RESULT, None, grid="grid.png")
    assert text.startswith("### styleforge-anime version 3, alias pr-12\n")
    assert "| KID × 10³ ↓ | 125 (−26 to 265) | 2381 | 128 |" in text
    assert "| CLIP-T ↑ | 59.25 (58.10 to 60.50) | – | 128 |" in text
    assert "95 % intervals. 61 s; 1 of 2 steps from the cache" in text
    assert "80 % intervals" in summary_markdown({**RESULT, "confidence": 0.8}, None)
    assert '<img src="grid.png"' in _html(text) and "Gate" not in text


def test_what_limits_the_result_is_told_if_the_set_was_examined() -> None:
    examined = {"headline": "Look first.", "limit": "The set. Two <b>styles</b>."}
    page = _html(summary_markdown({**RESULT, "examination": examined}, None))
    assert "<strong>What limits it:</strong> The set. Two &lt;b&gt;styles&lt;/b&gt;." in page
    for result in (RESULT, {**RESULT, "examination": None}):
        assert "limits" not in summary_markdown(result, None)


def test_the_gate_is_told_rule_by_rule() -> None:
    page = _html(summary_markdown(RESULT, GATE, title="configs/a.yaml"))
    assert "<h3>configs/a.yaml</h3>" in page and "styleforge-anime version 3" in page
    assert "Gate: ✗ refused" in page and "The champion is version 2." in page and "nothing was changed" in page
    assert page.count("<tr>") == 3 + 4
    assert "<td>✓ pass</td>" in page and "<td>✗ refuse</td>" in page and "<td>? undecided</td>" in page
    assert "a | b &lt;b&gt;@\u200bteam #\u200b4" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"promoted": True, "dry_run": False, "gate": {"verdict": "pass", "rules": []}}, "✓ passed.</strong> The model was promoted."),
        ({"promoted": True, "dry_run": False}, "promoted all the same, by force"),
        ({"dry_run": False, "champion": None}, "There is no champion yet. Nothing was changed."),
        ({"gate": None, "error": {"message": "MLflow: no answer"}}, "no verdict"),
    ],
)
def test_what_became_of_the_model(change: dict[str, Any], words: str) -> None:
    page = _html(summary_markdown(None, GATE | change))
    assert words in page and "<img" not in page


@pytest.mark.parametrize(("status", "words"), [("refused", "The run was refused"), ("failed", "The run was not finished")])
def test_a_run_without_a_model_tells_why(status: str, words: str) -> None:
    error = {"message": "bad.png: no picture\n```\n/close @team <script>"}
    page = _html(summary_markdown({"status": status, "error": error}, None, title="a.yaml", grid="grid.png"))
    assert words in page and "<table>" not in page and "<img" not in page
    assert page.count("<pre>") == 1 and "&lt;script&gt;" in page and "<script>" not in page


@pytest.mark.parametrize("text", ["<img src=x>", "[a](http://b)", "**b**", "`c`", "_d_ ~~e~~", "&lt;", "# h", "![i](j)", "a\n\n- b"])
def test_user_text_stays_text(text: str) -> None:
    page = _html(f"x {escaped(text)} y")
    assert page.count("<") == 2  # The paragraph's own two tags.
    assert " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in page.replace("\u200b", "")


def test_code_blocks_cannot_be_left_and_links_are_web_addresses() -> None:
    page = _html(fenced("a\n````\nb"))
    assert page.count("<pre>") == 1 and "<p>" not in page
    page = _html(summary_markdown(None, GATE, links=[("run", "https://a.org/x (1)"), ("bad", "javascript:alert(1)")]))
    assert '<a href="https://a.org/x%20%281%29">run</a>' in page and "javascript" not in page
