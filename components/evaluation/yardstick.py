"""Measures of drawn images against a style's own: how near they come, whether they are copies, whether StyleRef's subjects leak in.

Everything that the measures need from StyleRef, the reference and the base's images is kept as arrays, so that another model can be
measured in the same way without any image of the style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageOps
from PIL.Image import Image, Resampling

from components.core.errors import InputError
from components.evaluation import truth
from components.evaluation.metrics import Array, to_unit

FEWEST = 5
"""With fewer StyleRef images no copy limit is set: the 99th percentile of so few distances means nothing."""
LEAST_SELF_SIMILARITY = 0.05
"""Below this, a set's images are hardly more alike than the base's, so nothing can be measured against the set."""
_CROP = 0.8
_CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))
VARIANTS = 2 * (1 + len(_CORNERS))


@dataclass(frozen=True)
class StyleRef:
    """The images that the style was learned from: files, and captions (an empty string where there is none)."""

    paths: Sequence[Path] = ()
    captions: Sequence[str] = ()


class Yardstick:
    """Measures of single images, from arrays that are kept with the scores. What cannot be measured has no array, and a note says why.

    Style features are standardised by the base's images of the same prompts: 0 is the mean of what the base draws, and every feature is
    divided by its standard deviation over them.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.floating]], notes: Sequence[str] = ()) -> None:
        self.arrays, self.notes = dict(arrays), list(notes)

    def has(self, measure: str) -> bool:
        """Whether ``measure`` can be made: ``style_score``, ``style_held_out``, ``copies``, ``leakage``, or one of ``truth.MEASURES``."""
        return measure in self.arrays

    def values(self, measure: str, features: ArrayLike, own_texts: ArrayLike | None = None) -> Array:
        """(N,) values of N images in a measure; ``leakage`` also needs the (N, d) embeddings of their own prompts.

        ``style_score`` and ``style_held_out``: mean cosine to StyleRef or the reference, divided by the mean cosine within that set, so
        that 1 means as alike as the set's own images. ``copies``: 100 if the nearest StyleRef image, also mirrored or cropped, is nearer
        than 99 % of StyleRef's images are to their nearest, else 0. ``leakage``: 100 if the caption of a StyleRef image fits better than
        the image's own prompt, else 0.
        """
        kept, rows = np.asarray(self.arrays[measure], float), np.asarray(features, float)
        if measure == "leakage":
            assert own_texts is not None
            return 100.0 * ((rows @ kept.T).max(axis=1) > np.einsum("nd,nd->n", rows, np.asarray(own_texts, float)))
        if measure == "copies":
            return 100.0 * ((to_unit(rows) @ kept.T).max(axis=1) > self.copy_limit)
        return (self._standardised(rows) @ kept.T).mean(axis=1) / self_similarity(kept)

    def to_the_artist(self, measure: str, features: ArrayLike, prompt_ids: Sequence[str]) -> tuple[Array, Array]:
        """:func:`components.evaluation.truth.distances` of N images, for one of ``truth.MEASURES``."""
        return truth.distances(self._unit(measure, features), self.arrays[measure], self.arrays[truth.PAIRS], prompt_ids)

    def nearest(self, features: ArrayLike) -> tuple[NDArray[np.int64], Array]:
        """(N,) the index of the StyleRef image nearest to each of N images, and (N,) the cosines between them."""
        similarity = to_unit(np.asarray(features, float)) @ np.asarray(self.arrays["copies"], float).T
        found = similarity.argmax(axis=1)
        return found // VARIANTS, similarity[np.arange(len(found)), found]

    @property
    def copy_limit(self) -> float:
        """The cosine above which an image counts as a copy."""
        return float(self.arrays["copies_limit"][0])

    def _unit(self, measure: str, features: ArrayLike) -> Array:
        """Features of one of ``truth.MEASURES`` as rows of norm 1, standardised where the measure is."""
        rows, by = np.asarray(features, float), truth.STANDARDISED.get(measure)
        return self._standardised(rows, by) if by else to_unit(rows)

    def _standardised(self, rows: Array, by: str = "style") -> Array:
        return to_unit((rows - self.arrays[f"{by}_centre"]) / self.arrays[f"{by}_scale"])

    def _standardise_by(self, base: ArrayLike, by: str) -> None:
        base = np.asarray(base, float)
        spread = base.std(axis=0)
        # A feature in which the base never varies is divided by infinity, so that it does not count.
        self.arrays |= {f"{by}_centre": base.mean(axis=0), f"{by}_scale": np.where(spread > 1e-6, spread, np.inf)}

    def add_style(self, base: ArrayLike, style_ref: ArrayLike, reference: ArrayLike | None) -> None:
        """Add (N, d) style features of the base's images, of StyleRef, and of the reference if one is held out."""
        self._standardise_by(base, "style")
        for name, what, rows in (("style_score", "StyleRef", style_ref), ("style_held_out", "the reference", reference)):
            if rows is None:
                continue
            unit = self._standardised(np.asarray(rows, float))
            if len(unit) < 2:
                self.notes.append(f"{name}: {what} is a single image, so how alike its own images are is unknown")
            elif (own := self_similarity(unit)) < LEAST_SELF_SIMILARITY:
                self.notes.append(f"{name}: the images of {what} are hardly more alike than the base's ({own:.2f}; needed: "
                                  f"{LEAST_SELF_SIMILARITY}), so they cannot serve as a scale")  # fmt: skip
            else:
                self.arrays[name] = unit

    def add_truth(self, reference: Mapping[str, ArrayLike], base_lines: ArrayLike, pairs: Sequence[tuple[str, int]]) -> None:
        """Add (M, d) features of the reference for each of ``truth.MEASURES``, and the pairs: which prompt asks for which of its images.

        ``base_lines`` are the (N, d) line features of the base's images. Call :meth:`add_style` first.
        """
        if not pairs:
            self.notes.append("truth: no prompt asks for exactly a concept that the held-out reference names (concept in metadata.jsonl)")
            return
        self.arrays[truth.PAIRS] = truth.pairs_array(pairs)
        self._standardise_by(base_lines, "line")
        for measure in truth.MEASURES:
            by = truth.STANDARDISED.get(measure)
            if by and f"{by}_centre" not in self.arrays:
                self.notes.append(f"{measure}: style features are standardised by the measure style_score, which was not asked for")
            else:
                self.arrays[measure] = self._unit(measure, reference[measure])

    def add_other_artists(self, features: Mapping[str, Sequence[ArrayLike]], places: Sequence[Sequence[int]]) -> None:
        """Add how far other artists' images are from the artist's, a concept at a time; call :meth:`add_truth` first.

        ``places`` are the indices of the artist's reference images of each of K concepts; ``features`` has, for each of
        ``truth.MEASURES``, K arrays of (P, d) features of the others' images of the same concept.
        """
        for measure in filter(self.has, truth.MEASURES):
            own = self.arrays[measure]
            far = [
                truth.to_other_artists(own[list(mine)], self._unit(measure, theirs))
                for mine, theirs in zip(places, features[measure], strict=True)
            ]
            self.arrays[f"{measure}{truth.OTHER_ARTISTS}"] = np.array(far)

    def add_copies(self, variants: ArrayLike) -> None:
        """Add (M, V, d) features of StyleRef's images, each with its :func:`variants`, the image itself first."""
        rows = np.asarray(variants, float)
        if len(rows) < FEWEST:
            self.notes.append(f"copies: {len(rows)} StyleRef images are too few to say how similar two of them may be (needed: {FEWEST})")
            return
        rows = to_unit(rows)
        self.arrays["copies"] = rows.reshape(-1, rows.shape[-1])
        self.arrays["copies_limit"] = np.array([copy_limit(rows)])

    def add_captions(self, captions: ArrayLike) -> None:
        """Add (C, d) embeddings of StyleRef's captions, of norm 1."""
        rows = np.asarray(captions, float)
        if len(rows):
            self.arrays["leakage"] = rows
        else:
            self.notes.append("leakage: StyleRef has no captions, so what its images show is unknown")

    def save(self, path: Path) -> None:
        """Write the arrays into one safetensors file."""
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(array, np.float32) for name, array in sorted(self.arrays.items())}, path)

    @classmethod
    def load(cls, path: Path) -> Yardstick:
        """Read what :meth:`save` wrote; without a file, the yardstick measures nothing."""
        from safetensors.numpy import load_file

        return cls(load_file(path)) if path.is_file() else cls({})


def self_similarity(unit: Array) -> float:
    """Mean cosine over all pairs of different rows, which have norm 1."""
    n = len(unit)
    return float(((unit @ unit.T).sum() - n) / (n * (n - 1)))


def copy_limit(variants: Array) -> float:
    """99th percentile, over a set's images, of the cosine to the nearest other image or variant of one; ``variants`` is (M, V, d)."""
    count = len(variants)
    near = np.einsum("id,jvd->ijv", variants[:, 0], variants).max(axis=2)
    near[np.arange(count), np.arange(count)] = -1.0
    return float(np.quantile(near.max(axis=1), 0.99))


def variants(image: Image) -> list[Image]:
    """The image and its crops to 80 % of each side, at the corners and the centre, each also mirrored: what a copy may look like."""
    width, height = image.size
    box = (round(width * _CROP), round(height * _CROP))
    made = [image]
    for right, down in _CORNERS:
        x, y = round((width - box[0]) * right), round((height - box[1]) * down)
        made.append(image.crop((x, y, x + box[0], y + box[1])).resize(image.size, Resampling.BICUBIC))
    return [item for one in made for item in (one, ImageOps.mirror(one))]


def check_apart(style_ref: Mapping[Path, str], reference: Mapping[Path, str]) -> None:
    """Refuse a held-out reference that contains StyleRef images; both arguments map files to content hashes.

    Raises:
        InputError: it contains some (up to five are named); scores against such a reference would reward copies.
    """
    known = {digest: path for path, digest in style_ref.items()}
    found = [f"{path.name} is {known[digest].name}" for path, digest in reference.items() if digest in known]
    if found:
        listing = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise InputError(
            "style.reference", f"contains images of StyleRef ({listing})", expected="images that are held out of the training",
            remedy="remove them from one of the two",
        )  # fmt: skip
