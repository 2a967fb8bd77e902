"""Features without a network: how lines, edges and areas are distributed over scales, and which colours there are.

On real art and on the pocket world they read the style better than any network that comes with a package: see docs/science.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from components.evaluation.extractors.base import Features
from components.evaluation.extractors.colours import ColourExtractor

_SIDE, _LEVELS = 256, 6
_FLAT = 0.01
"""Largest difference of neighbouring pixels, of 1, within an area of one tone."""
_LUMA = np.array([0.299, 0.587, 0.114])


class TextureExtractor:
    """Statistics of a Laplacian pyramid (Burt and Adelson, *The Laplacian Pyramid as a Compact Image Code*, 1983), (N, 60).

    For each of six levels: of luma and two differences of colour, the logarithms of the band's mean size and of its spread; of luma,
    logarithms of the mean differences of neighbours across and down and of their 95th percentile, and the share of flat places.
    """

    id = f"texture:{_SIDE}:{_LEVELS}"
    name = "texture"
    resize = f"{_SIDE} × {_SIDE} px, PIL bicubic with antialiasing"
    batch_size = 1
    unit_norm = False

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 60) float32."""
        rows = [[value for level in _levels(image) for value in _statistics(*level)] for image in images]
        return np.asarray(rows, np.float32).reshape(len(images), 10 * _LEVELS)


class LookExtractor:
    """Texture, and the square roots of the shares of colours: (N, 124)."""

    id = f"look:{TextureExtractor.id}:{ColourExtractor.id}"
    name = "look"
    resize = TextureExtractor.resize
    batch_size = 1
    unit_norm = False

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 124) float32."""
        colours = np.sqrt(ColourExtractor().encode_images(images))
        return np.concatenate([TextureExtractor().encode_images(images), colours], axis=1)


def _levels(image: Image) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Of each level, from fine to coarse: luma (h, w) and the band (h, w, 3)."""
    pixels = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Resampling.BICUBIC), float) / 255
    luma = pixels @ _LUMA
    level = np.dstack([luma, pixels[..., 0] - luma, pixels[..., 2] - luma])
    for _ in range(_LEVELS):
        height, width = level.shape[:2]
        coarse = level.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
        yield level[..., 0], level - coarse.repeat(2, 0).repeat(2, 1)
        level = coarse


def _statistics(luma: NDArray[Any], band: NDArray[Any]) -> list[float]:
    across, down = (np.abs(np.diff(luma, axis=axis)) for axis in (1, 0))
    sizes = [*np.abs(band).mean((0, 1)), *band.std((0, 1)), across.mean(), down.mean(), np.quantile(across, 0.95)]
    # The floor is a quarter of a grey level: what 8 bits cannot show is no texture.
    return [*np.log(np.asarray(sizes) + 1e-3), float((across < _FLAT).mean())]
