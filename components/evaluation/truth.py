"""Paired truth: a drawn image beside what the artist really drew of the same concept.

FID and CLIP-I see a style as a cloud; here every drawn image is held against the one that it should have been.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from components.evaluation.metrics import Array, to_unit

MEASURES = {"truth": "extractor", "truth_style": "style_extractor", "truth_colours": "colour_extractor", "truth_lines": "line_extractor"}
"""The distances, with the name of the extractor of each among those of a scoring section."""
STANDARDISED = {"truth_style": "style", "truth_lines": "line"}
"""Those whose features are standardised by the base's images, with what their centre and scale are called. Shares of colours are not."""
PAIRS = "truth_pairs"
_FILLER = frozenset((
    "a", "an", "and", "at", "by", "for", "from", "her", "his", "in", "into", "is", "its", "of", "on", "or", "the", "their", "to", "with",
))  # fmt: skip


def content_words(text: str | None) -> frozenset[str]:
    """The words of a caption, prompt or concept that say what is shown, whatever their case and order."""
    return frozenset(re.findall(r"\w+", (text or "").casefold())) - _FILLER


def pair_up(prompts: Mapping[str, str], concepts: Sequence[str | None]) -> list[tuple[str, int]]:
    """Pairs of a prompt's id and the place of a reference image whose concept is all that the prompt asks for."""
    places: dict[frozenset[str], list[int]] = {}
    for place, concept in enumerate(concepts):
        if words := content_words(concept):
            places.setdefault(words, []).append(place)
    return [(key, place) for key, text in sorted(prompts.items()) for place in places.get(content_words(text), ())]


def pairs_array(pairs: Sequence[tuple[str, int]]) -> Array:
    """(R, 3): two halves of a hash of the prompt's id, each exact as a float32, and the reference image's place."""
    return np.array([[*_halves(prompt), place] for prompt, place in pairs], float)


def distances(features: ArrayLike, reference: ArrayLike, pairs: ArrayLike, prompt_ids: Sequence[str]) -> tuple[Array, Array]:
    """(N,) distance of N images to the artist's own image of the concept, and (N,) to the artist's other images; NaN without a pair.

    A distance is 100 · (1 − cosine), the mean over the images in question; ``reference`` is (M, d) of norm 1.
    """
    far = 100.0 * (1.0 - to_unit(np.asarray(features, float)) @ np.asarray(reference, float).T)
    rows: dict[tuple[int, int], list[int]] = {}
    for high, low, place in np.asarray(pairs, float):
        rows.setdefault((int(high), int(low)), []).append(int(place))
    own, others = np.full(len(far), np.nan), np.full(len(far), np.nan)
    for index, prompt in enumerate(prompt_ids):
        if places := rows.get(_halves(prompt)):
            own[index] = far[index, places].mean()
            rest = np.delete(far[index], places)
            others[index] = rest.mean() if len(rest) else np.nan
    return own, others


def spread(reference: ArrayLike, pairs: ArrayLike) -> Array:
    """(K,) for each of the artist's paired images its distance to the artist's other images: what another concept in the style gets."""
    rows = np.asarray(reference, float)
    far = 100.0 * (1.0 - rows @ rows.T)
    places = sorted({int(place) for place in np.asarray(pairs, float)[:, 2]})
    return np.array([np.delete(far[place], place).mean() for place in places if len(rows) > 1])


def _halves(prompt_id: str) -> tuple[int, int]:
    digest = hashlib.sha256(prompt_id.encode()).hexdigest()
    return int(digest[:6], 16), int(digest[6:12], 16)
