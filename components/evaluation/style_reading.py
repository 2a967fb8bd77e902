"""Whether features capture style regardless of subject, or subject regardless of artist, judged on images where both are known."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.evaluation.metrics import Bootstrap, Estimate, mean_with_interval, to_unit

Reads = Literal["style", "content", "both", "neither"]


@dataclass(frozen=True)
class Reading:
    """How well features capture style and content, as rates of correct nearest neighbours, each with its chance level.

    ``advantage`` is style's lead over content, both on the scale where 0 is chance and 1 is perfect. Intervals resample concepts.
    """

    style: Estimate
    content: Estimate
    style_chance: float
    content_chance: float
    advantage: Estimate

    @property
    def reads(self) -> Reads:
        """What they capture better: ``both`` if the interval of the lead contains 0, ``neither`` if no rate is clearly above chance."""
        if self.style.low <= self.style_chance and self.content.low <= self.content_chance:
            return "neither"
        if self.advantage.low > 0:
            return "style"
        return "content" if self.advantage.high < 0 else "both"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        style = asdict(self.style) | {"chance": self.style_chance}
        content = asdict(self.content) | {"chance": self.content_chance}
        return {"style": style, "content": content, "advantage": asdict(self.advantage), "reads": self.reads}


def read_style_and_content(features: ArrayLike, artists: Sequence[str], concepts: Sequence[str], bootstrap: Bootstrap) -> Reading:
    """Judge features by nearest neighbours.

    Style: is the nearest image of *another concept* by the same artist? Content: is the nearest image by *another artist* of the same
    concept? Nearest is by cosine, after each feature is standardised to mean 0 and variance 1 over all images, so that the two figures
    reflect what the features hold and not their scale.

    Args:
        features: (N, d).
        artists: (N,).
        concepts: (N,); every artist has every concept once.
        bootstrap: draws whole concepts.
    """
    rows = np.asarray(features, float)
    who, what = (np.unique(np.asarray(names), return_inverse=True)[1] for names in (artists, concepts))
    similarity = _cosine(rows)
    style = _same_of_nearest(similarity, who, what)
    content = _same_of_nearest(similarity, what, who)
    style_chance, content_chance = 1 / (who.max() + 1), 1 / (what.max() + 1)
    lead = (style - style_chance) / (1 - style_chance) - (content - content_chance) / (1 - content_chance)
    found = [mean_with_interval(values, concepts, bootstrap) for values in (style, content, lead)]
    return Reading(found[0], found[1], style_chance, content_chance, found[2])


def _cosine(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = rows.std(axis=0)
    # A feature that never changes says nothing; its rounding errors would say much.
    rows = (rows - rows.mean(axis=0))[:, spread > 1e-9] / spread[spread > 1e-9]
    rows = to_unit(rows)
    return rows @ rows.T


def _same_of_nearest(similarity: NDArray[np.float64], same: NDArray[Any], apart: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) 1 where the most similar image with another value of ``apart`` has the same value of ``same``, else 0."""
    others = np.where(apart[:, None] == apart[None], -np.inf, similarity)
    return (same[others.argmax(axis=1)] == same).astype(float)
