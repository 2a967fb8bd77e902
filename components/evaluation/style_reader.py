"""Estimates whether pictures share one style, from palettes and brushwork, with weights fitted on pictures of known styles.

Brushwork is projected into a space learned on the media of the pocket world: within a medium it spreads equally in all directions,
whatever is shown, and only the directions in which media differ are kept (Fisher's discriminants). Five figures of a set, two from its
palettes and three from that space, then give a probability. ``benchmarks/set_verdict.py`` fits and evaluates all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL.Image import Image

from components.evaluation.brushwork import brushwork, palette_likeness, shading, square
from components.evaluation.metrics import Array

WEIGHTS = Path(__file__).with_name("style_reader.safetensors")
NAME = "palettes and brushwork"
_LEAST_PART = 0.25
"""A part of a set smaller than this share counts as outliers, not as a second style."""
_LEAST_SPREAD, _FAR = 0.06, 1.2
"""Least spread to divide shading's deviations by, since flat drawings hardly vary; and the factor that puts distances on their scale."""


@dataclass(frozen=True)
class Space:
    """Maps brushwork into the space of styles: subtract ``mean``, multiply by ``axes``, (d, k)."""

    mean: Array
    axes: Array

    @classmethod
    def fit(cls, rows: Array, styles: Sequence[str], directions: int = 12, shrinkage: float = 0.1) -> Space:
        """Fit the space that separates (N, d) rows of known styles."""
        names = np.asarray(styles)
        centres = np.stack([rows[names == name].mean(axis=0) for name in sorted(set(styles))])
        inner = np.concatenate([rows[names == name] - rows[names == name].mean(axis=0) for name in sorted(set(styles))])
        deviation = np.maximum(inner.std(axis=0), 1e-6)
        covariance = np.cov(inner / deviation, rowvar=False)
        values, vectors = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * np.eye(len(covariance)))
        whitening = vectors / np.sqrt(np.maximum(values, 1e-9)) / deviation[:, None]
        mean = centres.mean(axis=0)
        _, _, apart = np.linalg.svd((centres - mean) @ whitening, full_matrices=False)
        return cls(mean, whitening @ apart[:directions].T)

    def __call__(self, rows: Array) -> Array:
        """(N, k) positions of (N, d) rows."""
        return np.asarray((rows - self.mean) @ self.axes)


@dataclass(frozen=True)
class StyleReading:
    """What was read from N pictures: likeness of their palettes (N, N), positions in the space of styles (N, k), and shading (N,)."""

    palettes: Array
    places: Array
    shading: Array

    def strangeness(self) -> Array:
        """(N,) how unlike the others each picture is; above about 5 it is of another kind.

        The larger of two figures: how far its shading is from the median, in robust standard deviations, and how far its position is from
        the centre of the others, relative to the median distance.
        """
        off = np.abs(self.shading - np.median(self.shading))
        others = (self.places.sum(axis=0) - self.places) / max(len(self.places) - 1, 1)
        far = np.linalg.norm(self.places - others, axis=1)
        shaded = off / max(1.4826 * float(np.median(off)), _LEAST_SPREAD)
        return np.asarray(np.maximum(shaded, _FAR * far / max(float(np.median(far)), 1e-9)))

    def order(self) -> list[int]:
        """Indices of the pictures along the axis on which their positions spread most; of two styles, one is at either end."""
        centred = self.places - self.places.mean(axis=0)
        axes, lengths, _ = np.linalg.svd(centred, full_matrices=False)
        return [int(place) for place in np.argsort(axes[:, 0] * lengths[0])]

    def figures(self) -> Array:
        """Five figures of the set, see :func:`set_figures`."""
        return set_figures(self.palettes, self.places)


def set_figures(palettes: Array, places: Array) -> Array:
    """(5,) figures that tell one style from two.

    In order: logarithm of the likeness of palettes across the best cut in two, relative to that within the parts; logarithm of their mean
    likeness; mean cosine of each position to the centre of the others; largest share of the spread along a main axis that a cut in two
    explains; logarithm of the spread.
    """
    n = len(places)
    mean_likeness = (palettes.sum() - np.trace(palettes)) / (n * (n - 1))
    others = (places.sum(axis=0) - places) / (n - 1)
    cosines = (places * others).sum(axis=1) / np.maximum(np.linalg.norm(places, axis=1) * np.linalg.norm(others, axis=1), 1e-9)
    centred = places - places.mean(axis=0)
    spread = (centred**2).sum() / (n - 1)
    return np.array([
        np.log(_cut_of_palettes(palettes) + 0.01), np.log(mean_likeness + 0.01),
        cosines.mean(), _cut_of_places(centred), np.log(spread + 1e-9),
    ])  # fmt: skip


def _cut_of_palettes(likeness: Array) -> float:
    """Least ratio of likeness across a cut in two to likeness within the parts, over the cuts of a spectral order (Shi and Malik, 2000)."""
    n = len(likeness)
    weights = likeness - np.diag(np.diag(likeness)) + 1e-6 * (1 - np.eye(n))
    degree = np.sqrt(weights.sum(axis=1))
    order = np.argsort(np.linalg.eigh(weights / np.outer(degree, degree))[1][:, -2] / degree)
    least = 1.0
    for size in _sizes(n):
        one, two = order[:size], order[size:]
        within = [weights[np.ix_(part, part)].sum() / (len(part) * (len(part) - 1)) for part in (one, two)]
        least = min(least, float(weights[np.ix_(one, two)].mean() / np.mean(within)))
    return least


def _cut_of_places(centred: Array) -> float:
    axes, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    best = 0.0
    for axis in range(min(2, len(lengths))):
        line = np.sort(axes[:, axis] * lengths[axis])
        total = max(float((line**2).sum()), 1e-12)
        parts = [(line[:size], line[size:]) for size in _sizes(len(line))]
        best = max([best, *(1 - sum(float(((part - part.mean()) ** 2).sum()) for part in two) / total for two in parts)])
    return best


def _sizes(n: int) -> range:
    least = max(2, int(np.ceil(_LEAST_PART * n)))
    return range(least, n - least + 1)


@dataclass(frozen=True)
class StyleReader:
    """The fitted weights: the space, the means, deviations and weights of the five figures, and the intercept."""

    space: Space
    centre: Array
    scale: Array
    weights: Array
    intercept: float

    @classmethod
    def load(cls, file: Path = WEIGHTS) -> StyleReader:
        """Load the weights, by default those that come with StyleForge."""
        return _load(file)

    def save(self, file: Path) -> None:
        """Write the weights."""
        from safetensors.numpy import save_file

        tensors = {
            "mean": self.space.mean, "axes": self.space.axes, "centre": self.centre, "scale": self.scale, "weights": self.weights,
            "intercept": np.array([self.intercept]),
        }  # fmt: skip
        save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, file)

    def read(self, images: Sequence[Image]) -> StyleReading:
        """Read N pictures."""
        squares = [square(image) for image in images]
        return StyleReading(palette_likeness(squares), self.space(brushwork(squares)), shading(squares))

    def one_style(self, reading: StyleReading) -> float:
        """The probability that a set of 8 pictures or more shows one style and not two."""
        logit = float((reading.figures() - self.centre) / self.scale @ self.weights + self.intercept)
        return float(1 / (1 + np.exp(-logit)))


@cache
def _load(file: Path) -> StyleReader:
    from safetensors.numpy import load_file

    found = {name: value.astype(float) for name, value in load_file(file).items()}
    space = Space(found["mean"], found["axes"])
    return StyleReader(space, found["centre"], found["scale"], found["weights"], float(found["intercept"][0]))
