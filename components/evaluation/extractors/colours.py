"""The simplest features, how much there is of each colour: a baseline that shows what a network adds."""

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from components.evaluation.extractors.base import Features

_BINS = 4


class ColourExtractor:
    """Shares of the pixels in each of 4 × 4 × 4 boxes of RGB, (N, 64)."""

    id = f"colours:{_BINS}"
    name = "colours"
    resize = "none"
    batch_size = 1
    unit_norm = False

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 64) float32; each row sums to 1."""
        rows = np.zeros((len(images), _BINS**3), np.float32)
        for row, image in zip(rows, images, strict=True):
            bins = np.asarray(image.convert("RGB"), np.int64) * _BINS // 256
            codes = (bins[..., 0] * _BINS + bins[..., 1]) * _BINS + bins[..., 2]
            row[:] = np.bincount(codes.ravel(), minlength=len(row)) / codes.size
        return rows
