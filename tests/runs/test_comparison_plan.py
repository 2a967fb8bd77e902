from typing import Any

import pytest

from components.core.comparison import CompareConfig, Comparison
from runs import plan
from runs.comparison_plan import equalize, plan_comparison


def test_a_comparison_over_a_url_looks_at_each_place_once(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_equal_compute_by_hand() -> None:
    made = CompareConfig.model_validate({
        "run": "x", "styles": [{"name": "s"}], "equal": "compute",
        "methods": [
            {"name": "dreambooth", "set": {"aux.source": "generated", "training.aux_batch_size": 6}},
            {"name": "alone", "set": {"method.name": "dreambooth", "aux.source": "none"}},
            {"name": "twice", "set": {"method.name": "dreambooth", "aux.source": "none", "training.gradient_accumulation": 2}},
            {"name": "both", "set": {"method.name": "dreambooth", "aux.source": "none", "training.processes": 2}},
        ],
    })  # fmt: skip
    run = {"style": {"name": "x", "source": "x"}, "training": {"steps": 100, "batch_size": 2}}
    # DreamBooth passes 2 + 6 = 8 pictures a step, 800 in all; without Aux 2 a step, or 4 where two micro-batches or processes make one.
    found = {cell.variants[0]: cell.config.training.steps for cell in equalize(Comparison(made, run, "x"))}
    assert found == {"dreambooth": 100, "alone": 400, "twice": 200, "both": 200}
    same = equalize(Comparison(made.model_copy(update={"equal": "steps"}), run, "x"))
    assert {cell.config.training.steps for cell in same} == {100}
