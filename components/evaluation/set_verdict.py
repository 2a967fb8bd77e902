"""The verdict on a style set before training: figures computed from plain arrays, each with its threshold and advice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.core.config import ExamineSection
from components.evaluation.metrics import Array, to_unit
from components.evaluation.yardstick import self_similarity

FEWEST = 8
"""With fewer pictures, coherence and separability are down to chance."""
FEWEST_OF_A_ROLE = 4
MOST_NAMED = 6
_EACH = 3
_DISTANCE = "× the usual distance"
_SIDES = ("of one kind",) * _EACH + ("of the other",) * _EACH


@dataclass(frozen=True)
class Named:
    """A picture that a finding is about, by its path in the style set, and its figure as text."""

    path: str
    note: str


@dataclass(frozen=True)
class Finding:
    """One question about a style set.

    ``value`` and ``threshold`` are in ``unit``; the threshold is the least good value or, with ``at_most``, the largest. If the figure was
    not computed, ``value`` and ``good`` are None and ``says`` gives the reason. ``advice`` is what to do; ``n`` is the number of pictures
    the figure rests on.
    """

    name: str
    question: str
    value: float | None
    threshold: float
    unit: str
    n: int
    good: bool | None
    says: str
    advice: str = ""
    pictures: tuple[Named, ...] = ()
    at_most: bool = False

    def line(self) -> str:
        """The finding as one line."""
        named = ", ".join(f"{picture.path} ({picture.note})" for picture in self.pictures)
        return " ".join(part for part in (self.question, self.says, self.advice, named and f"See {named}.") if part)


def separability(style: ArrayLike, base: ArrayLike) -> float:
    """How well the style's pictures can be told from the base's pictures of the same captions: 0.5 is chance, 1 is always.

    Row i of both (n, d) arrays belongs to one caption. Each pair is judged by the other pairs alone: which of the two lies further along
    the difference of their means? The rate of right answers is the area under the ROC curve within captions. It is unbiased: if the two
    are exchangeable, it averages 0.5 for any n and d.
    """
    x, y = np.asarray(style, float), np.asarray(base, float)
    total = (x - y).sum(axis=0)
    gaps = np.einsum("nd,nd->n", x - y, total - (x - y))
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def spread(features: ArrayLike) -> float:
    """Mean distance, 1 − cosine, between two rows of (n, d) features."""
    return 1 - self_similarity(to_unit(np.asarray(features, float)))


def psnr(picture: NDArray[np.uint8], returned: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures of one size, in dB, capped at 99 (equal pictures)."""
    error = float(np.mean((picture.astype(float) - returned.astype(float)) ** 2))
    return 99.0 if error == 0 else min(99.0, float(10 * np.log10(255**2 / error)))


@dataclass(frozen=True)
class SetFigures:
    """What was measured on N StyleRef pictures.

    Args:
        paths: N paths in the style set.
        roles: N roles; an empty string where none is known.
        one_style: the probability that they share one style; None for fewer than ``FEWEST``.
        order: N indices, from the pictures of one kind to those of the other.
        strangeness: (N,) how unlike the others each is, see :meth:`components.evaluation.style_reader.StyleReading.strangeness`.
        content: (N, d) features of what is shown.
        pairs: (M, d) features of StyleRef after the VAE, and of the base's pictures of the same captions; None if none were drawn.
        psnr: N values in dB; empty if the base was not used.
        asked_base: whether the base was used at all.
    """

    paths: Sequence[str]
    roles: Sequence[str]
    one_style: float | None
    order: Sequence[int]
    strangeness: Array
    content: ArrayLike
    pairs: tuple[ArrayLike, ArrayLike] | None
    psnr: Sequence[float]
    asked_base: bool


def find(figures: SetFigures, settings: ExamineSection) -> tuple[Finding, ...]:
    """All findings about a set, in the order in which a person should read them."""
    return (_coherence(figures, settings), _separability(figures, settings), _narrowness(figures, settings), _ceiling(figures, settings))


def _coherence(figures: SetFigures, settings: ExamineSection) -> Finding:
    n = len(figures.paths)
    scores = figures.strangeness if n >= FEWEST else np.zeros(n)
    worst = [place for place in np.argsort(-scores) if scores[place] > settings.outlier][:MOST_NAMED]
    named = tuple(Named(figures.paths[place], f"{scores[place]:.0f} {_DISTANCE}") for place in worst)
    finding = Finding(
        "coherence", "One style?", figures.one_style, settings.coherence, "", n, None, f"Not measured: {n} images are too few."
    )
    if figures.one_style is None:
        return finding
    if figures.one_style < settings.coherence:
        says = "The images look like two styles or more."
        advice = "Keep the images of one style and train a second model on the rest; otherwise the model learns a mixture."
        ends = [figures.paths[place] for place in (*figures.order[:_EACH], *figures.order[-_EACH:])]
        return _judged(finding, False, says, advice, tuple(map(Named, ends, _SIDES)))
    if named:
        count = "one image does" if len(named) == 1 else f"{len(named)} images do"
        says = f"One style, but {count} not look like the rest."
        # The figure that misses its threshold: the probability of one style does not.
        odd = replace(finding, value=float(scores[worst[0]]), threshold=settings.outlier, unit=_DISTANCE, at_most=True)
        return _judged(odd, False, says, "Remove what does not belong, or add more images like it.", named)
    return _judged(finding, True, "The images share one style.")


def _separability(figures: SetFigures, settings: ExamineSection) -> Finding:
    finding = Finding(
        "separability", "Anything to learn?", None, settings.separability, "", 0, None, _unasked(figures, "no image has a caption")
    )
    if figures.pairs is None:
        return finding
    n = len(np.asarray(figures.pairs[0]))
    if n < FEWEST:
        return replace(finding, n=n, says=f"Not measured: {n} images with captions are too few.")
    value = separability(*figures.pairs)
    finding = replace(finding, n=n, value=value)
    if value < settings.separability:
        says = "The base already draws these captions in much the same style."
        advice = "Prompt the base with these captions first: training may gain little."
        return _judged(finding, False, says, advice)
    return _judged(finding, True, "The base does not draw this style on its own.")


def _narrowness(figures: SetFigures, settings: ExamineSection) -> Finding:
    roles, content = np.array(figures.roles), np.asarray(figures.content, float)
    spreads = {role: spread(content[roles == role]) for role in sorted(set(figures.roles)) if (roles == role).sum() >= FEWEST_OF_A_ROLE}
    finding = Finding(
        "narrowness", "Varied enough?", min(spreads.values(), default=None), settings.narrowness, "", len(figures.paths), None,
        f"Not measured: no role has {FEWEST_OF_A_ROLE} images.",
    )  # fmt: skip
    if not spreads:
        return finding
    narrow = [role for role, value in spreads.items() if value < settings.narrowness]
    if narrow:
        what = " and ".join(f"the {role} images" if role else "the images" for role in narrow)
        says = f"{what[0].upper()}{what[1:]} show nearly the same thing."
        return _judged(finding, False, says, "Add images of other subjects and places; otherwise the style stays tied to this one.")
    return _judged(finding, True, "The images show different things.")


def _ceiling(figures: SetFigures, settings: ExamineSection) -> Finding:
    n = len(figures.psnr)
    finding = Finding("ceiling", "Can the base draw it?", None, settings.ceiling, "dB", n, None, _unasked(figures, "no image was encoded"))
    if not n:
        return finding
    values = np.asarray(figures.psnr, float)
    finding = replace(finding, value=float(np.median(values)))
    low = [place for place in np.argsort(values) if values[place] < settings.ceiling][:MOST_NAMED]
    named = tuple(Named(figures.paths[place], f"{values[place]:.1f} dB") for place in low)
    if np.median(values) < settings.ceiling:
        says = "The base's VAE loses much of these images, and nothing the base draws can come closer to them than that."
        advice = "Use a base whose VAE keeps more, with 16 latent channels instead of 4, or train at a higher resolution."
        return _judged(finding, False, says, advice, named)
    return _judged(finding, True, "The base's VAE reproduces these images" + (", some less well." if named else "."), "", named)


def _unasked(figures: SetFigures, reason: str) -> str:
    return f"Not measured: {reason if figures.asked_base else 'the base was not asked'}."


def _judged(finding: Finding, good: bool, says: str, advice: str = "", named: tuple[Named, ...] = ()) -> Finding:
    return replace(finding, good=good, says=says, advice=advice, pictures=named)


def limit(findings: Sequence[Mapping[str, Any]], level: str) -> str:
    """What limits a trained model, in words: the set, the base, the recipe, or nothing that is known.

    ``findings`` come from ``examination.json``, ``level`` from :func:`components.evaluation.verdict.judge`.
    """
    against = {finding["name"]: finding["says"] for finding in findings if finding["good"] is False}
    if level == "good" and not against:
        return "Nothing was found: the set and the base passed, and the model learned the style."
    if level == "good":
        return "Little: the model learned the style, although the check before training found this. " + " ".join(against.values())
    if "ceiling" in against:
        return "The base. " + against["ceiling"]
    # A few pictures that do not belong will not keep a style from being learned.
    odd = any(row["name"] == "coherence" and row.get("at_most") for row in findings)
    if found := [says for name, says in against.items() if name in ("coherence", "narrowness") and not (odd and name == "coherence")]:
        return "The set. " + " ".join(found)
    if "separability" in against:
        return "The base knows this style. " + against["separability"]
    if all(finding["good"] is None for finding in findings):
        return "Unknown: nothing could be measured on the set."
    return "The recipe: nothing found in the set or the base explains it, so change the training settings."
