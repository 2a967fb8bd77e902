"""The area that a method dominates over guidance: by hand, by its laws, and in a comparison."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.core.comparison import CompareConfig
from components.evaluation.comparison import Outcome, compare
from components.evaluation.comparison_text import front_rows
from components.evaluation.fronts import dominated
from components.evaluation.record import read_record
from tests.components.evaluation.made_comparison import make_record

BASE = {"kid": 2.0, "clip_t": 50.0}
SHARES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6)


def area(points: list[tuple[float, float]]) -> float:
    """Of points that are shares of the style and of CLIP-T."""
    kid, clip_t = ([[BASE["kid"] * (1 - x)] for x, _ in points], [[BASE["clip_t"] * y] for _, y in points])
    return float(dominated(kid, clip_t, BASE)[0])


def test_by_hand() -> None:
    assert area([(1.0, 1.0)]) == pytest.approx(100)
    assert area([(0.5, 0.5)]) == pytest.approx(25)
    # A step: 0.8 · 0.5 and above it 0.4 · (0.9 − 0.5); the point in its shadow adds nothing.
    assert area([(0.4, 0.9), (0.8, 0.5), (0.3, 0.4)]) == pytest.approx(100 * (0.8 * 0.5 + 0.4 * 0.4))
    # Farther than the base from the style, and prompts followed better than by the base: no less than nothing, no more than all.
    assert float(dominated([[3.0]], [[50.0]], BASE)[0]) == 0
    assert float(dominated([[-0.1]], [[60.0]], BASE)[0]) == pytest.approx(100)


@given(SHARES, SHARES)
def test_more_points_never_dominate_less_and_order_does_not_matter(
    some: list[tuple[float, float]], more: list[tuple[float, float]]
) -> None:
    assert area(some) == pytest.approx(area(some[::-1]), abs=1e-9)
    assert max(area(some), area(more)) - 1e-9 <= area(some + more) <= min(area(some) + area(more), 100) + 1e-9


@given(SHARES)
def test_it_is_the_share_of_a_grid_that_lies_behind_a_point(points: list[tuple[float, float]]) -> None:
    middle = (np.arange(200) + 0.5) / 200
    behind = np.zeros((200, 200), bool)
    for x, y in points:
        behind |= (middle[:, None] < x) & (middle[None] < y)
    assert area(points) == pytest.approx(100 * behind.mean(), abs=1.5)


def config(**changes: Any) -> CompareConfig:
    return CompareConfig.model_validate({
        "run": "run.yaml", "name": "made", "styles": [{"name": "anime"}], "seeds": [0, 1], "resamples": 100,
        "methods": [{"name": "lora"}, {"name": "dreambooth"}],
        "ablations": [
            {"name": f"Guidance of {method}", "variants": [
                {"name": f"{method}-1", "like": method, "set": {"sampling.guidance": 1.0}},
                {"name": f"{method}-4", "like": method, "set": {"sampling.guidance": 4.0}},
            ]}
            for method in ("lora", "dreambooth")
        ],
        **changes,
    })  # fmt: skip


def test_a_comparison_has_fronts_and_claims_on_them(tmp_path: Path) -> None:
    claims = [{"name": "LoRA reaches more", "metric": "hypervolume", "better": "lora", "than": ["dreambooth"]}]
    made = config(claims=claims)
    outcomes = []
    for seed in (0, 1):
        for place, (variant, shift, clip_t) in enumerate([
            ("lora", 0.3, 28.0), ("lora-1", 0.2, 26.0), ("lora-4", 0.9, 20.0), ("dreambooth", 0.9, 24.0), ("dreambooth-1", 0.8, 22.0),
            ("dreambooth-4", 1.2, 25.0),
        ]):  # fmt: skip
            folder = make_record(tmp_path / f"{variant}-{seed}", shift=shift, clip_t=clip_t, noise=10 * seed + place)
            outcomes.append(Outcome(f"{variant}-{seed}", (variant,), "anime", seed, 100, read_record(folder), None))
    result = compare(made, outcomes)
    lora, dreambooth = result["fronts"]
    assert lora["method"] == "lora" and set(lora["area"]["anime"]["values"]) == {"0", "1"}
    assert lora["area"]["anime"]["mean"] > dreambooth["area"]["anime"]["mean"] > 0
    # LoRA at 4 is beaten in both scores by LoRA at the run's own guidance.
    assert {point["variant"]: point["best"] for point in lora["points"]} == {"lora-1": True, "lora": True, "lora-4": False}
    (claim,) = result["claims"]
    assert claim["verdict"] == "held" and claim["pairs"][0]["decision"]["low"] > 0
    assert [row["label"] for row in front_rows(result)] == ["lora", "dreambooth"]
    # A point that is missing leaves no area to be compared.
    partly = compare(made, [outcome for outcome in outcomes if outcome.variants != ("lora-1",)])
    assert partly["fronts"][0]["area"] == {} and partly["claims"][0]["verdict"] == "undecided"


def test_a_claim_on_the_area_needs_fronts() -> None:
    claim = {"name": "x", "metric": "hypervolume", "better": "lora", "than": ["lora-1"]}
    with pytest.raises(ValidationError, match="lora-1 has no front"):
        config(claims=[claim])
