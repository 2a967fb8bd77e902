import numpy as np
import pytest

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
        lambda x, y: metrics.fid_with_interval(x, y, None, Bootstrap(60)),
        lambda x, y: metrics.mean_with_interval(x[:, 0], None, Bootstrap(60)),
    ):
        small, large = estimate(*sets(30, 30, 6)), estimate(*sets(480, 480, 6))
        assert small.low <= small.value <= small.high and small.n == 30 and large.n == 480
        assert large.high - large.low < 0.6 * (small.high - small.low)
        assert estimate(*sets(30, 30, 6)) == small


def test_mean_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(200):
        estimate = metrics.mean_with_interval(rng.normal(5, 1, size=40), None, Bootstrap(200, 0.9, seed))
        hits += estimate.low <= 5 <= estimate.high
    assert 0.82 <= hits / 200 <= 0.96


def test_pictures_of_one_prompt_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=20), 8)
    alone = metrics.mean_with_interval(values, None, Bootstrap(300))
    grouped = metrics.mean_with_interval(values, np.repeat(np.arange(20), 8).tolist(), Bootstrap(300))
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="reference pictures: 1 given"):
        metrics.fid(np.zeros((5, 3)), np.zeros((1, 3)))
    with pytest.raises(InputError, match="drawn pictures: 1 given"):
        metrics.kid(np.zeros((1, 3)), np.zeros((5, 3)), subset_size=5, subsets=1, seed=0)
    with pytest.raises(ValueError, match="one d"):
        metrics.fid(np.zeros((5, 3)), np.zeros((5, 4)))
