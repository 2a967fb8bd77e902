"""Is one method better than another? Means over seeds with t-intervals, and paired bootstrap over prompts and seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.core.content import derive_seed
from components.evaluation.metrics import Array, Bootstrap

HELD, NOT_HELD, UNDECIDED = "held", "not held", "undecided"
OUT_OF_REACH = 1000
"""A claim that would take more seeds than this to decide is called out of reach: for practical purposes the two are alike."""


@dataclass(frozen=True)
class SeedMean:
    """Mean over seeds; ``half_width`` of its t-interval is None for a single seed, which shows no spread."""

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Resampled:
    """A score of one cell: its value, and its (B,) values on B resamples of the prompts (and of the reference)."""

    value: float
    replicates: Array


@dataclass(frozen=True)
class Decision:
    """A claim's ``advantage`` (the claim holds above 0), interval and verdict.

    ``seeds_needed`` is the number of seeds that would decide an undecided claim; None if it is decided or no number in reach would.
    """

    advantage: float
    low: float
    high: float
    verdict: str
    seeds: int
    seeds_needed: int | None


def mean_over_seeds(values: Sequence[float], confidence: float) -> SeedMean:
    """Mean ± t · s / √n over n independent seeds (Student's interval, n − 1 degrees of freedom)."""
    from scipy.stats import t

    sample = np.asarray(values, float)
    if len(sample) < 2:
        return SeedMean(float(sample.mean()), None, len(sample))
    error = float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return SeedMean(float(sample.mean()), float(t.ppf((1 + confidence) / 2, len(sample) - 1)) * error, len(sample))


def advantages(better: Resampled, other: Resampled, *, lower: bool, margin: float) -> Resampled:
    """By how much ``better`` beats ``other`` on the same resamples, plus ``margin`` times the other's score; above zero, it holds."""
    sign = 1.0 if lower else -1.0

    def gap(mine: Any, theirs: Any) -> Any:
        return sign * (theirs - mine) + margin * np.abs(theirs)

    return Resampled(float(gap(better.value, other.value)), gap(better.replicates, other.replicates))


def decide(styles: Mapping[str, Sequence[Resampled]], confidence: float, seed: int) -> Decision:
    """Decide a claim from the paired advantages of each style's seeds.

    The replicates already resample prompts, in the same way for both variants, all styles and all seeds, since there is one bank. Seeds
    are resampled here, within each style: n − 1 of n with replacement, which makes the variance of a mean s²/n without bias
    (Rao and Wu 1988). Styles are not resampled, since a claim is about these styles; each weighs the same in the mean.
    """
    point = float(np.mean([np.mean([cell.value for cell in cells]) for cells in styles.values()]))
    resampled = np.mean([_over_seeds(cells, derive_seed(seed, "seeds", style)) for style, cells in styles.items()], axis=0)
    low, high = Bootstrap(len(resampled), confidence).interval(point, resampled[np.isfinite(resampled)])
    verdict = HELD if low > 0 else NOT_HELD if high < 0 else UNDECIDED
    seeds = min(len(cells) for cells in styles.values())
    needed = _seeds_needed(point, low, high, seeds) if verdict == UNDECIDED else None
    return Decision(point, low, high, verdict, seeds, needed)


def _over_seeds(cells: Sequence[Resampled], seed: int) -> Array:
    """(B,) means over drawn seeds; each cell's replicates are centred on its value, since resampling may bias them."""
    centred = np.stack([cell.value + cell.replicates - np.nanmean(cell.replicates) for cell in cells])
    if len(cells) == 1:
        return np.asarray(centred[0])
    resamples = centred.shape[1]
    drawn = np.random.default_rng(seed).integers(len(cells), size=(len(cells) - 1, resamples))
    return np.asarray(centred[drawn, np.arange(resamples)].mean(axis=0))


def _seeds_needed(point: float, low: float, high: float, seeds: int) -> int | None:
    """Seeds at which the interval would exclude zero, if the advantage stays the same and the interval shrinks with √seeds."""
    reach = point - low if point > 0 else high - point
    if point == 0 or (needed := seeds * (reach / abs(point)) ** 2) > OUT_OF_REACH:
        return None
    return max(seeds + 1, math.ceil(needed))


def join(verdicts: Sequence[str]) -> str:
    """A claim's verdict against several others: it must hold against all (intersection–union, Berger 1982), so no correction is needed."""
    if NOT_HELD in verdicts:
        return NOT_HELD
    return HELD if verdicts and all(verdict == HELD for verdict in verdicts) else UNDECIDED
