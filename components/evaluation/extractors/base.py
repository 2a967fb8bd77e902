"""The interface of every extractor, and helpers that they share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

Features = NDArray[np.float32]


class Extractor(Protocol):
    """Turns images into features.

    ``id`` changes whenever the features would; ``name`` and ``resize`` are for people. ``unit_norm`` says whether every feature vector has
    norm 1, so that the dot product of two is their cosine.
    """

    id: str
    name: str
    resize: str
    batch_size: int
    unit_norm: bool

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, d) features of N RGB images."""
        ...


def in_batches(arrays: Iterable[Features], size: int) -> Iterator[Features]:
    """Stacks of at most ``size`` consecutive arrays of the same shape, in their order."""
    for _, alike in itertools.groupby(arrays, key=lambda array: array.shape):
        while batch := list(itertools.islice(alike, size)):
            yield np.stack(batch)


def to_unit_norm(rows: NDArray[np.floating]) -> Features:
    """(N, d) rows divided by their norms."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
