"""FID, KID, CMMD, CLIP-T and CLIP-I over plain arrays, each with a bootstrap interval.

The formulae are checked against torchmetrics and by hand in the tests. They are implemented here, not taken from torchmetrics, because
an interval needs hundreds of evaluations on resampled rows; here a resample is a set of row weights, and all MMDs share one pass over
the kernel matrix.

Pictures of one prompt are not independent, so resampling draws whole prompts (``groups``), not single pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.core.errors import InputError

Array = NDArray[np.float64]

_BLOCK = 1024
_CMMD_SIGMA = 10
_CMMD_SCALE = 1000


@dataclass(frozen=True)
class Kernel:
    """A kernel: ``matrix`` returns the (n, m) values of (n, d) and (m, d) rows, ``diagonal`` the (n,) values of rows with themselves."""

    matrix: Callable[[Array, Array], Array]
    diagonal: Callable[[Array], Array]


CUBIC = Kernel(lambda a, b: (a @ b.T / a.shape[1] + 1.0) ** 3, lambda a: ((a * a).sum(axis=1) / a.shape[1] + 1.0) ** 3)
"""KID's kernel, (x·y/d + 1)³."""


def _gauss(a: Array, b: Array) -> Array:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    return np.exp(-squares / (2 * _CMMD_SIGMA**2))


GAUSS = Kernel(_gauss, lambda a: np.ones(len(a)))
"""CMMD's kernel, exp(−|x − y|² / (2 · 10²))."""
COSINE = Kernel(lambda a, b: a @ b.T, lambda a: (a * a).sum(axis=1))
"""The dot product, which is the cosine of rows of norm 1."""


@dataclass(frozen=True)
class Estimate:
    """A score, its bootstrap interval, and the number of pictures it rests on."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: number of resamples, confidence level, and the seed of the resampling.

    ``small_sample`` corrects intervals that would be too narrow: quantiles of B resamples lie inside those of all resamples, and the spread
    of n rows drawn from n is too small by √((n − 1) / n) and by the ratio of Student's quantile to the normal one. Without it, 95 %
    intervals of a mean of normal values cover the truth 94 % of the time with 100 values, 93 % with 40 and 92 % with 20; with it, 95 %
    (docs/science.md).
    """

    resamples: int = 200
    confidence: float = 0.95
    seed: int = 0
    small_sample: bool = False

    def interval(self, value: float, replicates: ArrayLike, n: int | None = None) -> tuple[float, float]:
        """The interval around ``value`` with the spread of ``replicates``.

        Their centre is not used, since resampling biases FID upwards (repeated rows lower the rank). ``n`` is the number of independent
        units that were resampled, for ``small_sample``.
        """
        spread = np.asarray(replicates, float)
        if len(spread) < 2:
            return value, value
        tail, widening, method = (1 - self.confidence) / 2, 1.0, "linear"
        if self.small_sample and n is not None and n > 1:
            from scipy.stats import norm, t

            widening, method = float(t.ppf(1 - tail, n - 1) / norm.ppf(1 - tail) * np.sqrt(n / (n - 1))), "weibull"
        low, high = widening * np.quantile(spread - spread.mean(), [tail, 1 - tail], method=method)  # type: ignore[call-overload]
        return value + min(float(low), 0.0), value + max(float(high), 0.0)


def group_weights(groups: Sequence[object], resamples: int, rng: np.random.Generator) -> Array:
    """(n, resamples) counts of each row in resamples that draw whole groups with replacement."""
    numbers = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[group] for group in groups])
    counts = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=resamples)
    return counts.T.astype(float)[group_of]


def mean_with_interval(values: ArrayLike, groups: Sequence[object] | None, bootstrap: Bootstrap) -> Estimate:
    """Mean of per-picture values, with an interval over resampled groups."""
    values = np.asarray(values, float)
    _need(len(values), 1, "a mean")
    rng = np.random.default_rng(bootstrap.seed)
    weights = group_weights(groups or range(len(values)), bootstrap.resamples, rng)
    totals = weights.sum(axis=0)
    replicates = (values @ weights)[totals > 0] / totals[totals > 0]
    value = float(values.mean())
    return Estimate(value, *bootstrap.interval(value, replicates, len(set(groups or range(len(values))))), n=len(values))


def clip_t_values(images: ArrayLike, texts: ArrayLike) -> Array:
    """(N,) CLIP scores 100 · max(cos, 0) of N picture and N text embeddings (Hessel et al. 2021, without the 2.5 of CLIP-S)."""
    images, texts = np.asarray(images, float), np.asarray(texts, float)
    return 100.0 * np.maximum(np.einsum("nd,nd->n", images, texts), 0.0)


def clip_i_values(images: ArrayLike, reference: ArrayLike) -> Array:
    """(N,) mean over the (M, d) reference embeddings of 100 · max(cos, 0) (CLIP-I of Ruiz et al. 2023, §4.2)."""
    cosines = np.asarray(images, float) @ np.asarray(reference, float).T
    return 100.0 * np.maximum(cosines, 0.0).mean(axis=1)


def diversity_with_interval(features: ArrayLike, groups: Sequence[object] | None, bootstrap: Bootstrap) -> Estimate:
    """100 · (1 − mean cosine of two different rows), 0 if all pictures are alike, with an interval over resampled groups."""
    x = to_unit(np.asarray(features, float))
    _need(len(x), 2, "diversity")
    weights = group_weights(groups or range(len(x)), bootstrap.resamples, np.random.default_rng(bootstrap.seed))
    value = 100.0 * (1.0 - float(_weighted_within(x, np.ones((len(x), 1)), COSINE)[0]))
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = 100.0 * (1.0 - _weighted_within(x, weights, COSINE))
    return Estimate(value, *bootstrap.interval(value, replicates[np.isfinite(replicates)], len(set(groups or range(len(x))))), n=len(x))


def fid(features: ArrayLike, reference: ArrayLike) -> float:
    """Fréchet distance of Gaussians fitted to (n, d) features (Heusel et al. 2017, eq. 6).

    It is biased upwards, so compare only values of equal n.
    """
    x, y = _two_sets(features, reference)
    return _frechet(x, np.ones(len(x)), y, np.ones(len(y)))


def fid_with_interval(
    features: ArrayLike, reference: ArrayLike, groups: Sequence[object] | None, bootstrap: Bootstrap, point: float | None = None
) -> Estimate:
    """:func:`fid` with an interval over :func:`fid_resamples` resamples of prompts and reference pictures."""
    x, y = _two_sets(features, reference)
    value = fid(x, y) if point is None else point
    rng = np.random.default_rng(bootstrap.seed)
    count = fid_resamples(bootstrap.resamples, min(x.shape[1], max(len(x), len(y))))
    left = group_weights(groups or range(len(x)), count, rng)
    right = group_weights(range(len(y)), count, rng)
    usable = [k for k in range(count) if (left[:, k] > 0).sum() > 1 and (right[:, k] > 0).sum() > 1]
    low, high = bootstrap.interval(value, [_frechet(x, left[:, k], y, right[:, k]) for k in usable])
    return Estimate(value, max(low, 0.0), high, n=len(x))


def fid_resamples(resamples: int, dimension: int) -> int:
    """Number of resamples for FID's interval: all up to 256 dimensions, then fewer in proportion to 1/d³, but at least 20."""
    return resamples if dimension <= 256 else min(resamples, max(20, int(resamples * (256 / dimension) ** 3)))


def kid(features: ArrayLike, reference: ArrayLike, *, subset_size: int, subsets: int, seed: int) -> float:
    """KID (Bińkowski et al. 2018): mean over random subsets of the unbiased squared MMD with the kernel (x·y/d + 1)³.

    A subset draws ``subset_size`` rows, at most min(n, m), from each set. The estimate is unbiased, so slightly negative values occur.
    """
    x, y = _two_sets(features, reference)
    size = min(subset_size, len(x), len(y))
    if size == len(x) == len(y):
        subsets = 1
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        a, b = x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        values.append(_mmd(a, b, CUBIC))
    return float(np.mean(values))


def kid_with_interval(
    features: ArrayLike,
    reference: ArrayLike,
    groups: Sequence[object] | None,
    bootstrap: Bootstrap,
    *,
    subset_size: int,
    subsets: int,
    seed: int,
) -> Estimate:
    """:func:`kid` with an interval over resampled prompts and reference pictures."""
    x, y = _two_sets(features, reference)
    value = kid(x, y, subset_size=subset_size, subsets=subsets, seed=seed)
    return Estimate(value, *_mmd_interval(value, x, y, groups, bootstrap, CUBIC), n=len(x))


def cmmd(features: ArrayLike, reference: ArrayLike) -> float:
    """CMMD (Jayasumana et al. 2024, arXiv 2401.09603): 1,000 times the squared MMD, with a Gaussian kernel, of rows scaled to unit norm.

    Meant for CLIP image embeddings. The estimate is unbiased, so slightly negative values occur; the authors' code also pairs every picture
    with itself and returns higher values, the more so the fewer the pictures.
    """
    x, y = (to_unit(rows) for rows in _two_sets(features, reference))
    return _CMMD_SCALE * float(mmd_replicates(x, y, np.ones((len(x), 1)), np.ones((len(y), 1)), GAUSS)[0])


def cmmd_with_interval(features: ArrayLike, reference: ArrayLike, groups: Sequence[object] | None, bootstrap: Bootstrap) -> Estimate:
    """:func:`cmmd` with an interval over resampled prompts and reference pictures."""
    x, y = (to_unit(rows) for rows in _two_sets(features, reference))
    value = cmmd(x, y)
    return Estimate(value, *_mmd_interval(value, x, y, groups, bootstrap, GAUSS, _CMMD_SCALE), n=len(x))


def _mmd_interval(
    value: float, x: Array, y: Array, groups: Sequence[object] | None, bootstrap: Bootstrap, kernel: Kernel, scale: float = 1.0
) -> tuple[float, float]:
    rng = np.random.default_rng(bootstrap.seed)
    left = group_weights(groups or range(len(x)), bootstrap.resamples, rng)
    right = group_weights(range(len(y)), bootstrap.resamples, rng)
    replicates = scale * mmd_replicates(x, y, left, right, kernel)
    return bootstrap.interval(value, replicates[np.isfinite(replicates)], min(len(set(groups or range(len(x)))), len(y)))


def mmd_replicates(
    features: ArrayLike, reference: ArrayLike, weights: Array, reference_weights: Array, kernel: Kernel = CUBIC
) -> Array:  # fmt: skip
    """(B,) squared MMDs of B resamples, given row counts (n, B) and (m, B) from :func:`group_weights`.

    All come from one pass over the kernel matrix: with row counts w, Σ w_i w_j k_ij over i ≠ j divided by Σ w_i w_j over i ≠ j. Leaving out
    i = j also for repeated rows keeps a resample from comparing a picture with its own copies. A resample that holds a single distinct row
    is NaN.
    """
    x, y = _two_sets(features, reference)
    with np.errstate(invalid="ignore", divide="ignore"):
        within = _weighted_within(x, weights, kernel) + _weighted_within(y, reference_weights, kernel)
        return within - 2 * _weighted_between(x, weights, y, reference_weights, kernel)


def _mmd(x: Array, y: Array, kernel: Kernel) -> float:
    """Unbiased squared MMD (Gretton et al. 2012, eq. 3)."""
    k_xx, k_yy, k_xy = kernel.matrix(x, x), kernel.matrix(y, y), kernel.matrix(x, y)
    n, m = len(k_xx), len(k_yy)
    within = (k_xx.sum() - np.trace(k_xx)) / (n * (n - 1)) + (k_yy.sum() - np.trace(k_yy)) / (m * (m - 1))
    return float(within - 2 * k_xy.mean())


def _weighted_within(x: Array, weights: Array, kernel: Kernel) -> Array:
    """(B,) weighted means of k(x_i, x_j) over i ≠ j, in blocks so that no n × n matrix is held in memory."""
    total = np.zeros(weights.shape[1])
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        total += np.einsum("ib,ib->b", weights[rows], kernel.matrix(x[rows], x) @ weights)
    squares = weights**2
    return (total - kernel.diagonal(x) @ squares) / (weights.sum(axis=0) ** 2 - squares.sum(axis=0))


def _weighted_between(x: Array, left: Array, y: Array, right: Array, kernel: Kernel) -> Array:
    """(B,) weighted means of k(x_i, y_j) over all pairs."""
    total = np.zeros(left.shape[1])
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, start + _BLOCK)
        total += np.einsum("ib,ib->b", left[rows], kernel.matrix(x[rows], y) @ right)
    return total / (left.sum(axis=0) * right.sum(axis=0))


def to_unit(rows: Array) -> Array:
    """Scale rows, along the last axis, to norm 1; a row of zeros stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _frechet(x: Array, x_weights: Array, y: Array, y_weights: Array) -> float:
    """|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½ with row counts as weights.

    With Σ₁ = AᵀA and Σ₂ = BᵀB, the last trace is the sum of the singular values of ABᵀ. This is exact even if the covariances are
    singular because there are fewer rows than dimensions, and cheap: A and B are reduced to at most d rows by their R factors.
    """
    a, mean_a = _root(x, x_weights)
    b, mean_b = _root(y, y_weights)
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    difference = mean_a - mean_b
    return float(max(difference @ difference + (a * a).sum() + (b * b).sum() - 2 * cross, 0.0))


def _root(x: Array, weights: Array) -> tuple[Array, Array]:
    """A with AᵀA = the covariance (divided by n − 1), and the mean; A has min(rows, d) rows."""
    used = weights > 0
    rows, counts = x[used], weights[used]
    total = counts.sum()
    mean = counts @ rows / total
    root = np.sqrt(counts / (total - 1))[:, None] * (rows - mean)
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return root, mean


def _two_sets(features: ArrayLike, reference: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(features, float), np.asarray(reference, float)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"expected two (n, d) arrays of one d, got {x.shape} and {y.shape}")
    _need(len(x), 2, "distances of sets, drawn images")
    _need(len(y), 2, "distances of sets, reference images")
    return x, y


def _need(count: int, least: int, what: str) -> None:
    if count < least:
        raise InputError(f"scoring: {what}", f"{count} given", expected=f"at least {least}", remedy="draw or supply more images")
