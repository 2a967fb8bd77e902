"""Tiny thumbnails as features: where an image is light and dark, and of which colour. They find copies without a network."""

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image, Resampling

from components.evaluation.extractors.base import Features, to_unit_norm

_SIDE = 8


class ThumbnailExtractor:
    """Images at 8 × 8 pixels, (N, 192): the dot product of two is their correlation, which ignores brightness and contrast."""

    id = f"thumbnail:{_SIDE}"
    name = "thumbnail"
    resize = f"{_SIDE} × {_SIDE} px, PIL box"
    batch_size = 1
    unit_norm = True

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 192) float32 of norm 1."""
        small = [np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Resampling.BOX), float).ravel() for image in images]
        rows = np.asarray(small, float).reshape(len(images), 3 * _SIDE**2)
        return to_unit_norm(rows - rows.mean(axis=1, keepdims=True))
