from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import InputError
from components.evaluation import metrics
from components.evaluation.metrics import Bootstrap


def sets(n: int = 90, m: int = 70, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n + m + d)
    return rng.normal(size=(n, d)), rng.normal(0.2, 1.2, size=(m, d))


def test_by_hand() -> None:
    images, texts = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    assert metrics.clip_t_values(images, texts) == pytest.approx([100.0, 60.0, 0.0])
    assert metrics.clip_i_values(images[:2], np.array([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx([50.0, 30.0])
    # N(1, 1) and N(4, 4) with n − 1: (1 − 4)² + 1 + 4 − 2·√(1·4) = 10.
    assert metrics.fid(np.array([[0.0], [1.0], [2.0]]), np.array([[2.0], [4.0], [6.0]])) == pytest.approx(10.0)
    # One dimension, so k(a, b) = (ab + 1)³. Pairs: k(0,1) = 1; k(1,2) = 27; between: k(0,1)=1, k(0,2)=1, k(1,1)=8, k(1,2)=27.
    found = metrics.kid(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]), subset_size=10, subsets=5, seed=0)
    assert found == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_agrees_with_torchmetrics() -> None:
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    class Flat(torch.nn.Module):
        num_features = 16

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures.flatten(1)

    x, y = sets(70, 70)
    for metric, ours in (
        (FrechetInceptionDistance(feature=Flat(), input_img_size=(1, 4, 4), normalize=True), metrics.fid(x, y)),
        (KernelInceptionDistance(feature=Flat(), subset_size=70, subsets=1, normalize=True),
         metrics.kid(x, y, subset_size=70, subsets=1, seed=0)),
    ):  # fmt: skip
        metric.set_dtype(torch.float64)
        metric.update(torch.from_numpy(x).reshape(-1, 1, 4, 4), real=False)
        metric.update(torch.from_numpy(y).reshape(-1, 1, 4, 4), real=True)
        theirs = metric.compute()
        assert float(theirs[0] if isinstance(theirs, tuple) else theirs) == pytest.approx(ours, rel=1e-4)


def expected_kernel(kernel: metrics.Kernel, mu: np.ndarray, nu: np.ndarray, s: float, t: float) -> float:
    """E k(x, y) of x ~ N(mu, s² I) and y ~ N(nu, t² I), in closed form."""
    d, inner = len(mu), float(mu @ nu)
    if kernel is metrics.GAUSS:
        total = 100 + s**2 + t**2
        return float((100 / total) ** (d / 2) * np.exp(-((mu - nu) ** 2).sum() / (2 * total)))
    second = inner**2 + s**2 * nu @ nu + t**2 * (mu @ mu + d * s**2)
    third = inner**3 + 3 * inner * s**2 * nu @ nu + 3 * t**2 * inner * (mu @ mu + (d + 2) * s**2)
    return float(third / d**3 + 3 * second / d**2 + 3 * inner / d + 1)


def expected_mmd(kernel: metrics.Kernel, shift: np.ndarray, spread: float) -> float:
    """The squared MMD of N(0, I) and N(shift, spread² I)."""
    zero = np.zeros(len(shift))
    within = expected_kernel(kernel, zero, zero, 1, 1) + expected_kernel(kernel, shift, shift, spread, spread)
    return within - 2 * expected_kernel(kernel, zero, shift, 1, spread)


@pytest.mark.parametrize("kernel", [metrics.CUBIC, metrics.GAUSS], ids=["cubic", "gauss"])
@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (0.4, 1.0), (0.3, 1.5)])
def test_distances_are_unbiased_on_known_gaussians(kernel: metrics.Kernel, shift: float, spread: float) -> None:
    """Even of five and seven rows: the mean over many draws is the distance of the distributions."""
    rng, d = np.random.default_rng(11), 4
    weights = np.ones((5, 1)), np.ones((7, 1))
    draws = ((rng.normal(size=(5, d)), rng.normal(shift, spread, size=(7, d))) for _ in range(4000))
    found = np.concatenate([metrics.mmd_replicates(x, y, *weights, kernel) for x, y in draws])
    error = found.std(ddof=1) / len(found) ** 0.5
    assert abs(found.mean() - expected_mmd(kernel, np.full(d, shift), spread)) < 3 * error


def test_cmmd_by_hand() -> None:
    x, y = sets(6, 4, 5)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        return float(np.exp(-((a - b) ** 2).sum() / 200))

    within = np.mean([k(*pair) for pair in combinations(x, 2)]) + np.mean([k(*pair) for pair in combinations(y, 2)])
    by_hand = 1000 * (within - 2 * np.mean([k(*pair) for pair in product(x, y)]))
    assert metrics.cmmd(x, y) == pytest.approx(by_hand, abs=1e-9)
    # The authors' code takes the mean over all pairs, a picture with itself among them: higher by what that adds.
    doubles = 1000 * sum((1 - np.mean([k(*pair) for pair in combinations(rows, 2)])) / len(rows) for rows in (x, y))
    biased = 1000 * (
        sum(np.mean([k(*pair) for pair in product(rows, rows)]) for rows in (x, y)) - 2 * np.mean([k(*p) for p in product(x, y)])
    )
    assert biased == pytest.approx(by_hand + doubles, abs=1e-9)
    estimate = metrics.cmmd_with_interval(x, y, None, Bootstrap(50))
    assert estimate.value == metrics.cmmd(x, y) and estimate.low < estimate.value < estimate.high and estimate.n == 6


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_the_order_of_pictures_does_not_matter(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.normal(0.5, 2, size=(m, 3))
    mixed = rng.permutation(x), rng.permutation(y)
    assert metrics.cmmd(*mixed) == pytest.approx(metrics.cmmd(x, y), abs=1e-9)
    assert metrics.cmmd(3 * x, y) == pytest.approx(metrics.cmmd(x, y), abs=1e-9)
    assert metrics.cmmd(y, x) == pytest.approx(metrics.cmmd(x, y), abs=1e-9)
    assert metrics.fid(*mixed) == pytest.approx(metrics.fid(x, y), rel=1e-6, abs=1e-9)
    same = x[:m], y[:n]
    whole = {"subset_size": 9, "subsets": 1, "seed": 0}
    if len(same[0]) == len(same[1]):
        assert metrics.kid(*map(rng.permutation, same), **whole) == pytest.approx(metrics.kid(*same, **whole), rel=1e-9, abs=1e-9)


def test_fid_is_exact_with_fewer_rows_than_dimensions() -> None:
    from scipy.linalg import sqrtm

    x, y = sets(10, 12, 30)
    product = sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    by_definition = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T)) + np.trace(np.cov(y.T)) - 2 * np.trace(product)
    assert metrics.fid(x, y) == pytest.approx(by_definition, rel=1e-3) == metrics.fid(y, x)
    assert metrics.fid(x, x) == pytest.approx(0, abs=1e-6)
    assert [metrics.fid_resamples(200, dimension) for dimension in (128, 512, 2048)] == [200, 25, 20]


def test_kid_is_seeded_and_caps_its_subset() -> None:
    x, y = sets()
    one = metrics.kid(x, y, subset_size=30, subsets=10, seed=1)
    assert one == metrics.kid(x, y, subset_size=30, subsets=10, seed=1)
    assert one != metrics.kid(x, y, subset_size=30, subsets=10, seed=2)
    assert np.isfinite(metrics.kid(x, y, subset_size=10_000, subsets=3, seed=1))


def test_weighted_fid_counts_repeated_rows() -> None:
    x, y = sets(9, 11, 4)
    counts = np.array([2, 0, 1, 3, 1, 0, 1, 1, 2], float)
    repeated = np.repeat(x, counts.astype(int), axis=0)
    assert metrics._frechet(x, counts, y, np.ones(11)) == pytest.approx(metrics.fid(repeated, y))


def test_intervals_hold_the_value_and_narrow_with_n() -> None:
    for estimate in (
        lambda x, y: metrics.kid_with_interval(x, y, None, Bootstrap(60), subset_size=50, subsets=20, seed=0),
        lambda x, y: metrics.cmmd_with_interval(x, y, None, Bootstrap(60)),
        lambda x, y: metrics.fid_with_interval(x, y, None, Bootstrap(60)),
        lambda x, y: metrics.mean_with_interval(x[:, 0], None, Bootstrap(60)),
    ):
        small, large = estimate(*sets(30, 30, 6)), estimate(*sets(480, 480, 6))
        assert small.low <= small.value <= small.high and small.n == 30 and large.n == 480
        assert large.high - large.low < 0.6 * (small.high - small.low)
        assert estimate(*sets(30, 30, 6)) == small


def coverage(interval: Callable[[np.random.Generator, int], metrics.Estimate], truth: float, datasets: int) -> float:
    """How often an interval of the data that a generator draws holds the truth."""
    made = [interval(np.random.default_rng([7, number]), number) for number in range(datasets)]
    return float(np.mean([estimate.low <= truth <= estimate.high for estimate in made]))


@pytest.mark.parametrize(("n", "small_sample"), [(100, False), (20, True)])
def test_intervals_of_means_hold_the_truth_as_often_as_they_say(n: int, small_sample: bool) -> None:
    def interval(rng: np.random.Generator, seed: int) -> metrics.Estimate:
        return metrics.mean_with_interval(rng.normal(5, 1, size=n), None, Bootstrap(200, 0.95, seed, small_sample))

    assert coverage(interval, 5.0, 1000) == pytest.approx(0.95, abs=0.02)


def test_resampling_alone_is_too_narrow_for_few_values() -> None:
    def interval(rng: np.random.Generator, seed: int) -> metrics.Estimate:
        return metrics.mean_with_interval(rng.normal(size=8), None, Bootstrap(200, 0.95, seed))

    assert coverage(interval, 0.0, 500) < 0.92


def distance_interval(shift: float, n: int, small_sample: bool) -> Callable[[np.random.Generator, int], metrics.Estimate]:
    def interval(rng: np.random.Generator, seed: int) -> metrics.Estimate:
        x, y = rng.normal(size=(n, 8)), rng.normal(shift, 1, size=(n, 8))
        return metrics.kid_with_interval(x, y, None, Bootstrap(200, 0.95, seed, small_sample), subset_size=n, subsets=1, seed=seed)

    return interval


def test_intervals_of_kid_hold_the_truth() -> None:
    truth = expected_mmd(metrics.CUBIC, np.full(8, 0.5), 1.0)
    assert coverage(distance_interval(0.5, 40, True), truth, 1000) == pytest.approx(0.95, abs=0.02)
    # Sets from one source: the bootstrap of a difference that is nothing but noise is wider than that noise.
    assert coverage(distance_interval(0.0, 40, False), 0.0, 50) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("small_sample", [False, True])
def test_intervals_of_kid_hold_the_truth_with_more_pictures(small_sample: bool) -> None:
    truth = expected_mmd(metrics.CUBIC, np.full(8, 0.5), 1.0)
    assert coverage(distance_interval(0.5, 100, small_sample), truth, 1000) == pytest.approx(0.95, abs=0.02)


def test_pictures_of_one_prompt_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=20), 8)
    alone = metrics.mean_with_interval(values, None, Bootstrap(300))
    grouped = metrics.mean_with_interval(values, np.repeat(np.arange(20), 8).tolist(), Bootstrap(300))
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="reference images: 1 given"):
        metrics.fid(np.zeros((5, 3)), np.zeros((1, 3)))
    with pytest.raises(InputError, match="drawn images: 1 given"):
        metrics.kid(np.zeros((1, 3)), np.zeros((5, 3)), subset_size=5, subsets=1, seed=0)
    with pytest.raises(ValueError, match="one d"):
        metrics.fid(np.zeros((5, 3)), np.zeros((5, 4)))
