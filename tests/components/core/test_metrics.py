import pytest

from components.core.metrics import MEASURES, SCORES, SPECS, score_rows


@pytest.mark.parametrize(
    ("metric", "value", "text", "exact"),
    [
        ("kid", 0.4127, "413", "412.70"),
        ("kid", 0.0481, "48.1", "48.10"),
        ("kid", -0.0004, "−0.40", "-0.40"),
        ("clip_t", 27.512, "27.51", "27.51"),
        ("fid", 9.127, "9.13", "9.13"),
        ("n", 128.0, "128", "128"),
    ],
)
def test_numbers_for_people(metric: str, value: float, text: str, exact: str) -> None:
    assert (SPECS[metric].text(value), SPECS[metric].exact(value)) == (text, exact)


def test_ends_have_as_many_decimals_as_their_value() -> None:
    score = {"value": 0.125, "low": -0.0261, "high": 0.265, "n": 128}
    assert score_rows({"kid": score, "clip_t": {"value": 59.25}}, {"kid": {"value": None}}) == [
        ("KID × 10³ ↓", "125 (−26 to 265)", "–", "128"), ("CLIP-T ↑", "59.25", "–", "–"),
    ]  # fmt: skip


def test_every_score_is_measured() -> None:
    from components.evaluation.scoring import DISTANCES, KEPT, MEANS, SETS

    assert {*DISTANCES, *MEANS} == set(SCORES) - set(MEASURES)
    assert {*SETS, *KEPT} == set(MEASURES)
