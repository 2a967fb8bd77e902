"""Paired truth: a drawn image compared with what the artist really drew of the same concept.

FID and CLIP-I treat a style as a cloud of points; here every drawn image is compared with the one that it should have been.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from components.evaluation.metrics import Array, to_unit

MEASURES = {"truth": "extractor", "truth_style": "style_extractor", "truth_colours": "colour_extractor", "truth_lines": "line_extractor"}
"""The distances, with the key of each one's extractor: a setting of the scoring section, or a fixed key for colours and lines."""
STANDARDISED = {"truth_style": "style", "truth_lines": "line"}
"""Distances whose features are standardised by the base's images, with the prefix of their centre and scale. Colour shares are not."""
PAIRS = "truth_pairs"
OTHER_ARTISTS = "_other_artists"
"""Ends the name of the array that says, for one of the distances, how far other artists' images of the paired concepts are."""
_FILLER = frozenset((
    "a", "an", "and", "at", "by", "for", "from", "her", "his", "in", "into", "is", "its", "of", "on", "or", "the", "their", "to", "with",
))  # fmt: skip


@dataclass(frozen=True)
class Concepts:
    """What images show, as far as their metadata says: those of the reference, of StyleRef, and by other artists.

    ``reference`` has an entry for each reference image, in order, None where nothing is recorded; ``others`` maps files to concepts.
    """

    reference: Sequence[str | None] = ()
    style_ref: Sequence[str] = ()
    others: Mapping[Path, str] = field(default_factory=dict)


def content_words(text: str | None) -> frozenset[str]:
    """The words of a caption, prompt or concept that say what is shown, regardless of case and order."""
    return frozenset(re.findall(r"\w+", (text or "").casefold())) - _FILLER


def pair_up(prompts: Mapping[str, str], concepts: Sequence[str | None]) -> list[tuple[str, int]]:
    """Pairs of a prompt's id and the index of a reference image whose concept is all that the prompt asks for."""
    places: dict[frozenset[str], list[int]] = {}
    for place, concept in enumerate(concepts):
        if words := content_words(concept):
            places.setdefault(words, []).append(place)
    return [(key, place) for key, text in sorted(prompts.items()) for place in places.get(content_words(text), ())]


def pair_unseen(prompts: Mapping[str, str], concepts: Concepts) -> tuple[list[tuple[str, int]], int]:
    """The pairs whose concept StyleRef does not show, and the number of concepts that are left out because it does."""
    seen = {content_words(concept) for concept in concepts.style_ref}
    pairs = [(key, place, content_words(concepts.reference[place])) for key, place in pair_up(prompts, concepts.reference)]
    kept = [(key, place) for key, place, words in pairs if words not in seen]
    return kept, len({words for _, _, words in pairs} & seen)


def drawn_by_both(pairs: Sequence[tuple[str, int]], concepts: Concepts) -> list[tuple[list[int], list[Path]]]:
    """For each paired concept that other artists drew too: the artist's images of it, by index, and theirs."""
    theirs: dict[frozenset[str], list[Path]] = {}
    for path, concept in concepts.others.items():
        theirs.setdefault(content_words(concept), []).append(path)
    ours: dict[frozenset[str], list[int]] = {}
    for place in sorted({place for _, place in pairs}):
        ours.setdefault(content_words(concepts.reference[place]), []).append(place)
    return [(places, theirs[words]) for words, places in ours.items() if words in theirs]


def pairs_array(pairs: Sequence[tuple[str, int]]) -> Array:
    """(R, 3): a hash of the prompt's id in two halves, each exact as a float32, and the reference image's index."""
    return np.array([[*_halves(prompt), place] for prompt, place in pairs], float)


def distances(features: ArrayLike, reference: ArrayLike, pairs: ArrayLike, prompt_ids: Sequence[str]) -> tuple[Array, Array]:
    """(N,) distances of N images to the artist's image of the same concept, and (N,) to the artist's other images; NaN without a pair.

    A distance is 100 · (1 − cosine), averaged if there are several images to compare with; ``reference`` has (M, d) rows of norm 1.
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
    """(K,) mean distances of the artist's paired images to the artist's other images: what another concept in the same style scores."""
    rows = np.asarray(reference, float)
    far = 100.0 * (1.0 - rows @ rows.T)
    places = sorted({int(place) for place in np.asarray(pairs, float)[:, 2]})
    return np.array([np.delete(far[place], place).mean() for place in places if len(rows) > 1])


def to_other_artists(own: ArrayLike, others: ArrayLike) -> float:
    """Mean distance of the artist's images of a concept, (M, d), to other artists' of the same concept, (P, d); all rows have norm 1."""
    return float((100.0 * (1.0 - np.asarray(own, float) @ np.asarray(others, float).T)).mean())


def _halves(prompt_id: str) -> tuple[int, int]:
    digest = hashlib.sha256(prompt_id.encode()).hexdigest()
    return int(digest[:6], 16), int(digest[6:12], 16)
