"""Pictures to tensors: upright RGB, aspect ratio kept, cut to the base's square; variants named by what was done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from components.content import derive_seed

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_ZOOM = 1.15
"""Further crops are cut from a picture whose shorter side is up to so many times the resolution."""


@dataclass(frozen=True)
class Variant:
    """One augmented view of a picture: which crop (0 is the centre), and whether it is mirrored."""

    crop: int = 0
    flipped: bool = False


def cut(picture: Image, resolution: int, variant: Variant, seed: int, sample_id: str) -> torch.Tensor:
    """One view of a picture as the VAE wants it: float32 in [-1, 1], shape (3, resolution, resolution).

    The shorter side is resized to the resolution (Lanczos, never squashed) and the centre is cut out. Crops after the
    first are zoomed by up to ``MAX_ZOOM`` and cut at a place derived from the seed, the sample and the crop's number, so a
    view is the same whenever it is made.
    """
    from PIL import Image

    zoom, across, down = 1.0, 0.5, 0.5
    if variant.crop:
        generator = torch.Generator().manual_seed(derive_seed(seed, "crop", sample_id, variant.crop))
        first, across, down = torch.rand(3, generator=generator).tolist()
        zoom = 1.0 + first * (MAX_ZOOM - 1.0)
    scale = resolution * zoom / min(picture.size)
    width, height = (max(resolution, round(side * scale)) for side in picture.size)
    left, top = round((width - resolution) * across), round((height - resolution) * down)
    resized = picture.resize((width, height), Image.Resampling.LANCZOS).crop((left, top, left + resolution, top + resolution))
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32).copy()).permute(2, 0, 1) / 127.5 - 1.0
    return pixels.flip(-1) if variant.flipped else pixels


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """Decoded pictures in [-1, 1], shape (N, 3, H, W), as uint8 RGB, shape (N, H, W, 3)."""
    scaled = ((pixels.float() + 1.0) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
