from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.config import builtin_config, validate_model
from components.core.errors import ConfigError
from components.registry.gate import GateConfig, judge, load_gate


def gate(*rules: dict[str, Any]) -> GateConfig:
    return validate_model(GateConfig, {"rules": list(rules)}, "gate.yaml")


def score(value: float, low: float | None = None, high: float | None = None, n: int = 128) -> dict[str, Any]:
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high, "n": n}


def verdict(rule: dict[str, Any], scores: dict[str, Any], champion: dict[str, Any] | None = None) -> str:
    return judge(gate(rule), scores, champion).verdict


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.10, 0.08, 0.12), "pass"), ((0.10, 0.08, 0.2), "undecided"), ((0.2, 0.1, 0.3), "undecided"), ((0.2, 0.16, 0.3), "refuse")],
)
def test_a_number_as_limit(interval: tuple[float, float, float], expected: str) -> None:
    assert verdict({"metric": "kid", "at_most": 0.15}, {"style": {"kid": score(*interval)}}) == expected
    # The same the other way round.
    mirrored = score(-interval[0], -interval[2], -interval[1])
    assert verdict({"metric": "clip_t", "at_least": -0.15}, {"style": {"clip_t": mirrored}}) == expected


KID_TO_BASE, CLIP_TO_CHAMPION = (
    {"metric": "kid", "against": "base", "at_most": 0.5},
    {"metric": "clip_t", "against": "champion", "at_least": 0.9},
)


@pytest.mark.parametrize(
    ("rule", "mine", "theirs", "expected"),
    [
        # 0.5 × 0.4 = 0.2. Mine 0.1 with 0.05 above it, the base's 0.04 below it: √(0.05² + (0.5 · 0.04)²) = 0.0539 < 0.1.
        (KID_TO_BASE, score(0.1, 0.08, 0.15), score(0.4, 0.36, 0.5), "pass"),
        # With the base's lower end at 0.2 it is √(0.05² + 0.1²) = 0.112 > 0.1.
        (KID_TO_BASE, score(0.1, 0.08, 0.15), score(0.4, 0.2, 0.5), "undecided"),
        # Mine 0.3: missed by 0.1; below it 0.03, above the base 0.1: √(0.03² + 0.05²) = 0.058 < 0.1.
        (KID_TO_BASE, score(0.3, 0.27, 0.9), score(0.4, 0.2, 0.5), "refuse"),
        # At least 0.9 × 60 = 54. Mine 56 with 1 below, the champion's 1 above: √(1 + 0.81) = 1.35 < 2.
        (CLIP_TO_CHAMPION, score(56, 55, 59), score(60, 50, 61), "pass"),
        (CLIP_TO_CHAMPION, score(56, 55, 59), score(60, 59, 63), "undecided"),
        (CLIP_TO_CHAMPION, score(50, 49, 53), score(60, 59, 63), "refuse"),
        ({"metric": "kid", "at_most": 0.2, "decide": "value"}, score(0.21, 0.0, 1.0), score(0), "refuse"),
        ({"metric": "kid", "at_most": 0.2, "margin": 0.01, "decide": "value"}, score(0.21, 0.0, 1.0), score(0), "pass"),
        ({"metric": "kid", "at_most": 0.21, "decide": "value"}, score(0.21, 0.0, 1.0), score(0), "pass"),
    ],
)
def test_by_hand(rule: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any], expected: str) -> None:
    metric = rule["metric"]
    assert verdict(rule, {"style": {metric: mine}, "base": {metric: theirs}}, {metric: theirs}) == expected


def test_paired_resamples_decide_what_intervals_cannot() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, 2000)
    mine, theirs = 0.10 + shared, 0.11 + shared + rng.normal(0, 0.001, 2000)
    scores = {"style": {"kid": score(0.10, 0.0, 0.2)}}
    champion = {"kid": score(0.11, 0.01, 0.21)}
    rule = {"metric": "kid", "against": "champion", "at_most": 1.0}
    assert judge(gate(rule), scores, champion).verdict == "undecided"
    assert judge(gate(rule), scores, champion, ({"kid": mine}, {"kid": theirs})).verdict == "pass"
    assert judge(gate(rule), {"style": champion}, scores["style"], ({"kid": theirs}, {"kid": mine})).verdict == "refuse"


def test_paired_differences_have_the_level_of_the_scores() -> None:
    spread = {"kid": np.random.default_rng(0).normal(0, 0.01, 4000)}
    rule, still = {"metric": "kid", "against": "champion", "at_most": 1.0}, {"kid": np.zeros(4000)}
    found = [
        judge(gate(rule), {"style": {"kid": score(0.1)}, "context": {"confidence": level}}, {"kid": score(0.115)}, (spread, still))
        for level in (0.95, 0.8)
    ]
    # 1.96 standard errors of 0.01 are more than the 0.015 between the two, 1.28 are not.
    assert [result.verdict for result in found] == ["undecided", "pass"]


def test_scores_that_are_not_there_refuse_and_without_a_champion_its_rules_pass() -> None:
    for rule, style, outcome, message in (
        ({"metric": "fid", "at_most": 1.0}, {}, "refuse", "no such score"),
        ({"metric": "drift_kid", "at_most": 1.0}, {}, "refuse", "no such score"),
        ({"metric": "n", "at_least": 1}, {}, "refuse", "no such score"),
        ({"metric": "kid", "against": "base", "at_most": 1.0}, {"kid": score(1.0)}, "refuse", "the base has no such score"),
        ({"metric": "kid", "against": "champion", "at_most": 1.0}, {"kid": score(9.0)}, "pass", "no champion"),
    ):
        result = judge(gate(rule), {"style": style}, None)
        assert result.verdict == outcome and message in result.rules[0].message
    # One refusal outweighs the undecided, and both the passed.
    scores = {"style": {"kid": score(0.1, 0.0, 0.3), "clip_t": score(60)}}
    rules = [{"metric": "kid", "at_most": 0.2}, {"metric": "clip_t", "at_least": 50}, {"metric": "clip_t", "at_least": 70}]
    assert judge(gate(*rules[:2]), scores, None).verdict == "undecided"
    result = judge(gate(*rules), scores, None)
    assert result.verdict == "refuse" and [rule.verdict for rule in result.rules] == ["undecided", "pass", "refuse"]
    assert result.listing().count("\n") == 2


def test_drift_and_the_number_of_pictures() -> None:
    drift = {"kid_to_base": score(0.3), "clip_t": score(50), "clip_t_base": score(60)}
    scores = {"style": {"kid": score(0.1, n=50), "clip_t": score(60, n=64)}, "drift": drift}
    assert verdict({"metric": "drift_kid", "at_most": 0.29}, scores) == "refuse"
    for limit, outcome in ((0.8, "pass"), (0.9, "refuse")):
        assert verdict({"metric": "drift_clip_t", "against": "base", "at_least": limit}, scores) == outcome
    assert [verdict({"metric": "n", "at_least": least}, scores) for least in (50, 51)] == ["pass", "refuse"]


def test_words_name_figures_limits_and_what_would_decide() -> None:
    scores = {"style": {"kid": score(0.100, 0.08, 0.14)}, "base": {"kid": score(0.24, 0.2, 0.3)}}
    (rule,) = judge(gate({"metric": "kid", "against": "base", "at_most": 0.5}), scores, None).rules
    assert rule.verdict == "undecided" and rule.name == "KID × 10³ at most 0.5 × the base's"
    assert "KID × 10³ is 100.00 (80.00 to 140.00), the base's 240.00 (200.00 to 300.00)" in rule.message
    assert "at most 0.5 × that = 120.00; met by 20.00" in rule.message
    # Reach √(40² + (0.5 · 40)²) = 44.7 against 20: 128 · (44.7/20)² = 640 pictures.
    assert "about 640 images would decide it (there are 128)" in rule.message


@given(
    st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.1, 3)
)  # fmt: skip
def test_raising_a_limit_never_turns_a_pass_into_anything_else(
    mine: float, down: float, up: float, base: float, base_down: float, base_up: float, limit: float
) -> None:
    scores = {"style": {"kid": score(mine, mine - down, mine + up)}, "base": {"kid": score(base, base - base_down, base + base_up)}}
    order = {"refuse": 0, "undecided": 1, "pass": 2}
    found = [verdict({"metric": "kid", "against": "base", "at_most": limit, "margin": margin}, scores) for margin in (0.0, 0.1, 0.5, 3.0)]
    assert [order[item] for item in found] == sorted(order[item] for item in found)
    by_value = verdict({"metric": "kid", "against": "base", "at_most": limit, "decide": "value"}, scores)
    assert found[0] in (by_value, "undecided")


STYLE, COPIES = {"metric": "style_score", "at_least": 0.8}, {"metric": "copies", "at_most": 10.0}


@pytest.mark.parametrize(
    ("rule", "mine", "theirs", "expected"),
    [
        (STYLE, score(0.95, 0.85, 1.05), {}, "pass"), (STYLE, score(0.95, 0.75, 1.05), {}, "undecided"),
        (STYLE, score(0.6, 0.5, 0.7), {}, "refuse"),
        (COPIES, score(2.0, 0.0, 8.0), {}, "pass"), (COPIES, score(12.0, 6.0, 20.0), {}, "undecided"),
        (COPIES, score(40.0, 30.0, 50.0), {}, "refuse"),
        # At least 1.5 × 0.4 = 0.6. Mine 0.95 with 0.1 below, the base's 0.1 above it: √(0.1² + (1.5 · 0.1)²) = 0.18 < 0.35.
        ({"metric": "style_score", "against": "base", "at_least": 1.5}, score(0.95, 0.85, 1.05), score(0.4, 0.3, 0.5), "pass"),
        ({"metric": "style_score", "against": "base", "at_least": 1.5}, score(0.7, 0.6, 0.8), score(0.4, 0.3, 0.5), "undecided"),
        ({"metric": "style_score", "against": "base", "at_least": 1.5}, score(0.95, 0.85, 1.05), None, "refuse"),
    ],
)  # fmt: skip
def test_measures_are_judged_as_the_scores_are(rule: dict[str, Any], mine: Any, theirs: Any, expected: str) -> None:
    assert verdict(rule, {"style": {rule["metric"]: mine}, "base": {rule["metric"]: theirs}}) == expected


def test_a_champion_is_compared_with_in_pairs_by_a_measure_too() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.1, 2000)
    mine, theirs = {"style_score": 0.90 + shared}, {"style_score": 0.88 + shared + rng.normal(0, 0.002, 2000)}
    rule = {"metric": "style_score", "against": "champion", "at_least": 1.0}
    scores, champion = {"style": {"style_score": score(0.90, 0.7, 1.1)}}, {"style_score": score(0.88, 0.68, 1.08)}
    assert judge(gate(rule), scores, champion).verdict == "undecided"
    assert judge(gate(rule), scores, champion, (mine, theirs)).verdict == "pass"
    # A champion that was scored before there was such a measure.
    assert judge(gate(rule), scores, {"kid": score(0.1)}).verdict == "refuse"


def test_rights_are_a_rule_beside_the_scores() -> None:
    scores: dict[str, Any] = {"style": {"kid": score(0.1)}}
    rules: dict[str, Any] = {"rules": [{"metric": "kid", "at_most": 1}]}
    asked = validate_model(GateConfig, {**rules, "rights": {"licenses": ["CC-BY-SA-4.0", "CC0-1.0"]}}, "gate.yaml")
    rows = [{"path": "a.png", "license": "CC-BY-SA-4.0", "author": "Ann"}, {"path": "b.png", "license": "CC0-1.0"}]
    found = judge(asked, {**scores, "rights": rows}, None)
    assert found.verdict == "pass" and found.rules[-1].message.endswith("2 images under CC-BY-SA-4.0, CC0-1.0; share-alike: CC-BY-SA-4.0")
    found = judge(asked, {**scores, "rights": [*rows, {"path": "c.png"}, {"path": "d.png", "license": "MIT", "author": "Bob"}]}, None)
    assert found.verdict == "refuse" and "2 of 4 images may not be trained on" in found.rules[-1].message
    assert "c.png: has no license" in found.listing() and "d.png: its license MIT is not among" in found.listing()
    for missing in (None, []):
        found = judge(asked, {**scores, "rights": missing}, None)
        assert found.verdict == "refuse" and "no record of the rights" in found.rules[-1].message
    # Where no rule asks, nobody looks.
    assert len(judge(validate_model(GateConfig, rules, "gate.yaml"), {**scores, "rights": [{"path": "c.png"}]}, None).rules) == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"metric": "kid"}, "exactly one of at_most and at_least"),
        ({"metric": "kid", "at_most": 1, "at_least": 0}, "exactly one of at_most and at_least"),
        ({"metric": "n", "against": "base", "at_least": 1}, "number of images"),
        ({"metric": "drift_kid", "against": "base", "at_most": 1}, "already relative to the base"),
        ({"metric": "drift_clip_t", "against": "champion", "at_least": 1}, "compared with the base or a number"),
        ({"metric": "kid", "at_mots": 1}, "did you mean"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gate(rule)


def test_the_gate_that_ships_loads_and_a_file_at_fault_is_named(tmp_path: Path) -> None:
    assert load_gate(builtin_config("gate")).rules
    (tmp_path / "gate.yaml").write_text("rules: [{metric: kid, at_most: 1}]\nrights: {licenses: [GPL]}")
    with pytest.raises(ConfigError, match=r"gate\.yaml: rights\.licenses: GPL: not an SPDX id"):
        load_gate(tmp_path / "gate.yaml")
    (tmp_path / "gate.yaml").write_text("rules: []")
    with pytest.raises(ConfigError, match=r"gate\.yaml"):
        load_gate(tmp_path / "gate.yaml")
