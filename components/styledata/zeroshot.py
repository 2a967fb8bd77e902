"""What a picture shows and how it is made, classified zero-shot by a CLIP encoder and ensembles of prompts."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from components.styledata.manifest import ImageEntry

LOGIT_SCALE = 100.0
"""CLIP's own upper bound on its learned logit scale (Radford et al., 2021, section 2.5)."""

PEOPLE = ("person", "man", "woman", "boy", "girl")
PLACES = ("mountains", "beach", "city", "forest", "desert", "field", "night sky", "room", "snow", "river", "garden", "street")
FORMS = ("photo", "digital painting", "illustration", "oil painting", "watercolor", "sketch", "ink drawing", "pastel", "poster")

_CHARACTER = ("a {who}, {place} background", "a photo of a {who}, {place} background", "a portrait of a {who}, {place} background")
_PORTRAIT = ("a {who}, upper body", "a photo of a {who}", "a portrait of a {who}")
_SCENERY = ("{place}", "a view of {place}", "a photo of {place} with nobody in it")
_FORM = ("{form}", "a {form} of a person", "a {form} of a man", "a {form} of a woman", "a photo of {form} style, a person")
_BATCH = 64


class ImageTextEncoder(Protocol):
    """A CLIP model, which encodes pictures and texts into one space."""

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        """Features of RGB pictures, shape (n, d), unit length."""

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """Features of texts, shape (n, d), unit length."""


EncoderFactory = Callable[[], ImageTextEncoder]


def encode_entries(entries: Sequence[ImageEntry], style_set: Path, encoder: ImageTextEncoder) -> np.ndarray:
    """Features of a style set's pictures, shape (n, d); decoded in small batches, so that a large pool fits into memory."""
    remaining = iter(entries)
    batches = []
    while batch := list(islice(remaining, _BATCH)):
        batches.append(np.asarray(encoder.encode_images([entry.load(style_set) for entry in batch]), dtype=np.float64))
    return np.concatenate(batches)


def character_log_odds(features: np.ndarray, encoder: ImageTextEncoder) -> np.ndarray:
    """ln P(a person) − ln P(scenery) of each picture, shape (n,): two groups of prompt ensembles, each averaged over its classes.

    The prompts put people in every kind of place, since a person on a beach is closer to "beach" than to "person" alone.
    """
    people = [[text.format(who=who, place=place) for text in _CHARACTER] for who in PEOPLE for place in PLACES]
    people += [[text.format(who=who) for text in _PORTRAIT] for who in PEOPLE]
    scenery = [[text.format(place=place) for text in _SCENERY] for place in PLACES]
    return _group_score(features, ensemble(people, encoder)) - _group_score(features, ensemble(scenery, encoder))


def form_log_odds(features: np.ndarray, form: str, encoder: ImageTextEncoder) -> np.ndarray:
    """ln P(this form of art) − ln P(another form) of each picture, shape (n,)."""
    others = [name for name in FORMS if name != form.strip().lower()]
    directions = ensemble([[text.format(form=name) for text in _FORM] for name in (form, *others)], encoder)
    return _group_score(features, directions[:1]) - _group_score(features, directions[1:])


def ensemble(classes: Sequence[Iterable[str]], encoder: ImageTextEncoder) -> np.ndarray:
    """One direction per class, the mean of its prompts' features, shape (classes, d), unit length (Radford et al., 2021, section 3.1.4)."""
    prompts = [list(texts) for texts in classes]
    features = np.asarray(encoder.encode_texts([text for texts in prompts for text in texts]), dtype=np.float64)
    ends = np.cumsum([len(texts) for texts in prompts])
    means = np.stack([part.mean(axis=0) for part in np.split(features, ends[:-1])])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _group_score(features: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """ln of the mean over classes of exp(scaled cosine), so that a group does not win by having more classes; shape (n,)."""
    logits = LOGIT_SCALE * features @ directions.T
    top = logits.max(axis=1, keepdims=True)
    return top[:, 0] + np.log(np.exp(logits - top).mean(axis=1))
