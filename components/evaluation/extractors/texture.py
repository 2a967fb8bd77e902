"""Features without a network: how lines, edges and areas are distributed over scales, and which colours there are.

On real art and on the pocket world they capture style better than any network that comes with a package; see docs/science.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from components.evaluation.extractors.base import Features
from components.evaluation.extractors.colours import ColourExtractor

_SIDE, _LEVELS = 256, 6
_FLAT = 0.01
"""Largest difference between neighbouring pixels (from 0 to 1) within an area of one tone."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class TextureExtractor:
    """Statistics of a Laplacian pyramid (Burt and Adelson, *The Laplacian Pyramid as a Compact Image Code*, 1983), (N, 60).

    For each of six levels: for luma and two colour differences, the logarithms of the band's mean magnitude and of its spread; for luma,
    the logarithms of the mean differences of neighbours across and down and of the 95th percentile of those across, and the share of flat
    places (also across).
    """

    id = f"texture:{_SIDE}:{_LEVELS}:fp32"
    name = "texture"
    resize = f"{_SIDE} × {_SIDE} px, PIL bicubic with antialiasing"
    batch_size = 1
    unit_norm = False

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 60) float32."""
        rows = [[value for level in _levels(image) for value in _statistics(*level)] for image in images]
        return np.asarray(rows, np.float32).reshape(len(images), 10 * _LEVELS)


class LookExtractor:
    """Texture, and the square roots of the colour shares: (N, 124)."""

    id = f"look:{TextureExtractor.id}:{ColourExtractor.id}"
    name = "look"
    resize = TextureExtractor.resize
    batch_size = 1
    unit_norm = False

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 124) float32."""
        colours = np.sqrt(ColourExtractor().encode_images(images))
        return np.concatenate([TextureExtractor().encode_images(images), colours], axis=1)


def _levels(image: Image) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For each level, from fine to coarse: luma (h, w) and the band (3, h · w). Planes in fp32 make this five times as fast."""
    pixels = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Resampling.BICUBIC), np.float32) / np.float32(255)
    luma = pixels @ _LUMA
    level: NDArray[np.float32] = np.stack([luma, pixels[..., 0] - luma, pixels[..., 2] - luma])
    for _ in range(_LEVELS):
        blocks: NDArray[np.float32] = level.reshape(3, level.shape[1] // 2, 2, level.shape[2] // 2, 2)
        coarse: NDArray[np.float32] = (
            blocks[:, :, 0, :, 0] + blocks[:, :, 0, :, 1] + blocks[:, :, 1, :, 0] + blocks[:, :, 1, :, 1]
        ) / np.float32(4)
        yield level[0], (blocks - coarse[:, :, None, :, None]).reshape(3, -1)
        level = coarse


def _statistics(luma: NDArray[np.float32], band: NDArray[np.float32]) -> list[float]:
    across, down = (np.abs(np.diff(luma, axis=axis)) for axis in (1, 0))
    sizes = [*np.abs(band).mean(1), *band.std(1), across.mean(), down.mean(), np.quantile(across, 0.95)]
    # The floor is a quarter of a grey level: what 8 bits cannot show is no texture.
    return [*np.log(np.asarray(sizes, float) + 1e-3), float((across < _FLAT).mean())]
