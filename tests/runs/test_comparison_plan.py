"""Plans of comparisons, as pure functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.core.comparison import CompareConfig, Comparison
from runs import plan
from runs.comparison_plan import equalize, plan_comparison


def test_a_comparison_over_a_url_looks_at_each_place_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path))
    asked: list[str] = []
    monkeypatch.setattr(plan, "check_reachable", asked.append)
    made = CompareConfig.model_validate({
        "run": "x", "seeds": [0, 1, 2], "styles": [{"name": "s", "source": "memory://bucket/s"}],
        "methods": [{"name": "dreambooth", "set": {"aux.source": "target"}}, {"name": "lora", "set": {"aux.source": "target"}}],
    })  # fmt: skip
    comparison = Comparison(made, {"style": {"name": "x", "source": "x"}}, "x")
    found: dict[str, Any] = plan_comparison(comparison, equalize(comparison))
    assert len(found["cells"]) == 6
    assert len({cell["plan"]["scan"] for cell in found["cells"]}) == 1
    assert len(asked) == 1
    again = plan_comparison(comparison, equalize(comparison))
    assert again["cells"][0]["plan"]["scan"] != found["cells"][0]["plan"]["scan"]
