"""People's votes on a version: logged with the model whose images they saw, and read by the gate with their interval."""

from typing import Any

import pytest

from components.core.config import validate_model
from components.core.errors import ConfigError, GateRefused, InputError
from components.registry.gate import GateConfig, judge
from components.registry.promotion import PromotionRequest, promote
from components.registry.versions import find_version
from components.registry.votes import MODEL_DIGEST, VOTES, log_votes, votes_of
from tests.components.registry.made_versions import TOOLS, Shelf


def gate(*rules: dict[str, Any]) -> GateConfig:
    return validate_model(GateConfig, {"rules": list(rules)}, "gate")


def result(value: float, low: float, high: float, people: int = 5) -> dict[str, Any]:
    return {"rate": {"value": value, "low": low, "high": high, "n": 200}, "people": people}


def key(kind: str, **digests: str) -> dict[str, Any]:
    return {"kind": kind, "page": "page-1", "sources": {role: {"name": role, "model_digest": value} for role, value in digests.items()}}


@pytest.fixture
def version(shelf: Shelf) -> str:
    reference = shelf.add("m", 0.1)
    shelf.tracking.client.set_model_version_tag("m", "1", MODEL_DIGEST, "mine")
    return reference


LIMIT = {"metric": "taken_for_artist", "at_least": 40}


@pytest.mark.parametrize(
    ("rate", "expected"), [((45, 41, 49), "pass"), ((45, 38, 52), "undecided"), ((30, 25, 36), "refuse"), ((38, 30, 46), "undecided")]
)
def test_the_whole_interval_must_keep_the_limit(shelf: Shelf, version: str, rate: tuple[float, float, float], expected: str) -> None:
    request = PromotionRequest(version, gate(LIMIT), dry_run=True)
    before = promote(shelf.tracking, request, TOOLS).gate
    assert before.verdict == "refuse" and "nobody has voted" in before.rules[0].message
    assert log_votes(shelf.tracking, "m/1", key("artist", model="mine"), result(*rate)) == "m/1"
    found = promote(shelf.tracking, request, TOOLS).gate
    assert found.verdict == expected
    assert f"taken for the artist's, % is {rate[0]}.00 ({rate[1]}.00 to {rate[2]}.00)" in found.rules[0].message
    assert ("answers would decide it (there are 200)" in found.rules[0].message) == (expected == "undecided")
    metrics = shelf.tracking.client.get_run(shelf.run_id).data.metrics
    assert [metrics[f"votes/taken_for_artist{end}"] for end in ("", "_low", "_high")] == list(rate)


def test_a_preference_is_turned_round_for_the_second_model(shelf: Shelf, version: str) -> None:
    log_votes(shelf.tracking, version, key("like", a="other", b="mine"), result(30, 20, 45, people=2))
    log_votes(shelf.tracking, version, key("artist", model="mine"), result(45, 41, 49, people=3))
    found = votes_of(find_version(shelf.tracking, version))
    assert {part: found["preferred"][part] for part in ("value", "low", "high")} == {"value": 70, "low": 55, "high": 80}
    assert found["preferred"]["over"] == ["a"] and found["taken_for_artist"]["over"] == []
    scores = {"style": {}, "votes": found}
    assert judge(gate({"metric": "voters", "at_least": 2}, {"metric": "preferred", "at_least": 50}), scores, None).verdict == "pass"
    assert judge(gate({"metric": "voters", "at_least": 3}), scores, None).verdict == "refuse"
    assert judge(gate({"metric": "preferred_in_style", "at_least": 50}), scores, None).verdict == "refuse"


def test_votes_on_another_model_and_a_damaged_tag_are_refused(shelf: Shelf, version: str) -> None:
    with pytest.raises(InputError, match=r"the page shows no image of m/1.*expected the model that it shows \(model\)"):
        log_votes(shelf.tracking, version, key("artist", model="another"), result(45, 41, 49))
    assert VOTES not in find_version(shelf.tracking, version).tags
    for damaged in ("{", "[]", '{"preferred": {"value": 1}}', '{"preferred": {"value": "x", "low": 0, "high": 1, "people": 1}}'):
        shelf.tracking.client.set_model_version_tag("m", "1", VOTES, damaged)
        with pytest.raises(GateRefused, match="is damaged"):
            promote(shelf.tracking, PromotionRequest(version, gate(LIMIT)), TOOLS)


@pytest.mark.parametrize("against", ["base", "champion"])
def test_votes_are_held_against_a_number(against: str) -> None:
    with pytest.raises(ConfigError, match="compared with a number"):
        gate({**LIMIT, "against": against})
