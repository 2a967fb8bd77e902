import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation import metrics
from components.evaluation.significance import HELD, NOT_HELD, UNDECIDED, Resampled, advantages, decide, join, mean_over_seeds  # fmt: skip


def spread(value: float, noise: float = 0.0, seed: int = 0, resamples: int = 4000) -> Resampled:
    return Resampled(value, value + noise * np.random.default_rng(seed).standard_normal(resamples))


def test_mean_over_seeds_by_hand() -> None:
    # 1, 2, 3: mean 2, s = 1, standard error 1/√3; t(0.975, 2) = 4.302653 by the tables.
    found = mean_over_seeds([1.0, 2.0, 3.0], 0.95)
    assert found.mean == 2.0 and found.n == 3
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert mean_over_seeds([5.0], 0.95).half_width is None


@pytest.mark.parametrize(
    ("mine", "theirs", "lower", "margin", "wanted"),
    [
        (2.0, 3.0, True, 0.0, 1.0),
        (2.0, 3.0, False, 0.0, -1.0),
        # May be worse by a quarter of 2: 2 + 0.5 − 2.4 = 0.1; a KID below zero must widen the margin too: −2 + 0.5 − −0.6 = −0.9.
        (2.4, 2.0, True, 0.25, 0.1),
        (-0.6, -2.0, True, 0.25, -0.9),
    ],
)
def test_advantage_by_hand(mine: float, theirs: float, lower: bool, margin: float, wanted: float) -> None:
    assert advantages(spread(mine), spread(theirs), lower=lower, margin=margin).value == pytest.approx(wanted)


def test_pairing_takes_out_what_both_share() -> None:
    shared = np.random.default_rng(0).standard_normal(4000)
    better, other = Resampled(10.0, 10.0 + 5 * shared), Resampled(10.5, 10.5 + 5 * shared)
    paired = decide({"a": [advantages(better, other, lower=True, margin=0.0)]}, 0.95, 0)
    assert paired.verdict == HELD and paired.low == pytest.approx(0.5)
    apart = Resampled(10.5, 10.5 + 5 * np.random.default_rng(1).standard_normal(4000))
    assert decide({"a": [advantages(better, apart, lower=True, margin=0.0)]}, 0.95, 0).verdict == UNDECIDED


def test_interval_of_normal_replicates_by_hand() -> None:
    found = decide({"a": [spread(1.0, 0.5, resamples=200_000)]}, 0.95, 0)
    assert (found.low, found.high) == (pytest.approx(1 - 1.96 * 0.5, abs=0.02), pytest.approx(1 + 1.96 * 0.5, abs=0.02))
    for value, verdict in ((1.0, HELD), (-1.0, NOT_HELD), (0.3, UNDECIDED)):
        assert decide({"a": [spread(value, 0.3)]}, 0.95, 0).verdict == verdict


def test_chance_between_seeds_is_in_the_interval_without_bias() -> None:
    # No chance of prompts: the variance of the mean is s²/n. Drawing n of n would give (n − 1)/n of it, two thirds here.
    values = [1.0, 2.0, 6.0]
    cells = [spread(value, resamples=400_000) for value in values]
    found = decide({"a": cells}, 0.68268, 0)
    drawn = np.array([(a + b) / 2 for a in values for b in values])
    assert drawn.var() == pytest.approx(np.var(values, ddof=1) / 3)
    # Nine equally likely means, discrete: the interval is that of their exact quantiles.
    low, high = np.quantile(np.repeat(drawn, 1000) - drawn.mean(), [0.15866, 0.84134])
    assert (found.low, found.high) == (pytest.approx(3 + low, abs=0.02), pytest.approx(3 + high, abs=0.02))
    assert found.seeds == 3


def test_styles_weigh_alike_and_are_independent() -> None:
    found = decide({"a": [spread(1.0)], "b": [spread(3.0), spread(5.0)]}, 0.95, 0)
    assert found.advantage == 2.5 and found.seeds == 1


def test_seeds_needed_by_hand() -> None:
    # Half-width 1.96·0.5 = 0.98 at 2 seeds and an advantage of 0.49: four times the seeds halve it.
    cells = [spread(0.49, 0.5 * math.sqrt(2), seed=k, resamples=400_000) for k in range(2)]
    found = decide({"a": cells}, 0.95, 0)
    reach = found.advantage - found.low
    assert found.verdict == UNDECIDED
    assert found.seeds_needed == math.ceil(2 * (reach / 0.49) ** 2)


def test_what_no_number_of_seeds_decides() -> None:
    assert decide({"a": [spread(0.0, 1.0)]}, 0.95, 0).seeds_needed is None
    tiny = decide({"a": [spread(1e-6, 1.0)]}, 0.95, 0)
    assert tiny.verdict == UNDECIDED and tiny.seeds_needed is None


@given(st.lists(st.sampled_from([HELD, NOT_HELD, UNDECIDED]), max_size=5))
def test_a_claim_about_several_others(verdicts: list[str]) -> None:
    joined = join(verdicts)
    assert (joined == HELD) == (bool(verdicts) and set(verdicts) == {HELD})
    assert (joined == NOT_HELD) == (NOT_HELD in verdicts)


def test_mmd_replicates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rows counted once give the unbiased estimate itself; a row counted twice is as if it were there twice, but never its own pair.
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 3)) + 0.5
    weights = np.array([[1, 2], [1, 0], [1, 1], [1, 1], [1, 1]], float)
    monkeypatch.setattr(metrics, "_BLOCK", 2)
    found = metrics.mmd_replicates(x, y, weights, np.ones((5, 2)))
    assert found[0] == pytest.approx(metrics.kid(x, y, subset_size=5, subsets=1, seed=0))
    w, kernel = weights[:, 1], lambda a, b: (a @ b.T / 3 + 1) ** 3
    pairs = np.outer(w, w) * (1 - np.eye(5))
    within = (pairs * kernel(x, x)).sum() / pairs.sum()
    other = kernel(y, y)[~np.eye(5, dtype=bool)].mean()
    between = (w[:, None] * kernel(x, y)).sum() / (5 * 5)
    assert found[1] == pytest.approx(within + other - 2 * between)
