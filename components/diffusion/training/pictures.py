"""Pictures to tensors: upright RGB, aspect ratio kept, cut to their bucket; each variant is one augmented view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from components.core.config import TransformName
from components.core.content import derive_seed
from components.diffusion.training.buckets import Size
from components.diffusion.training.variety import Variant

MAX_ZOOM = 1.15
"""Crops after the first are cut from a picture enlarged by up to this factor beyond what covers the view."""

TRANSFORMS: dict[TransformName, Callable[[Image.Image], Image.Image]] = {
    "invert": ImageOps.invert,
    "posterize": lambda picture: ImageOps.posterize(picture, 2),
    "solarize": lambda picture: ImageOps.solarize(picture, 100),
    "sharpen": lambda picture: ImageEnhance.Sharpness(picture).enhance(3.0),
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "horizontal-flip": ImageOps.mirror,
    "vertical-flip": ImageOps.flip,
}
"""Transforms of a whole RGB picture, which its prompt names; strengths as in Specialist Diffusion's (Lu et al., 2023) public code."""


@dataclass(frozen=True)
class Placement:
    """Where a view lies in its picture, in pixels: the size that the picture is resized to, and the cut's upper left corner in it."""

    width: int
    height: int
    left: int
    top: int


def place(size: tuple[int, int], view: Size, variant: Variant, seed: int, sample_id: str) -> Placement:
    """Where a view of ``view`` (height, width) pixels is cut from a picture of ``size`` (width, height), before it is mirrored.

    The picture is resized until it just covers the view, and the centre is cut out. Crops after the first are zoomed by up to
    ``MAX_ZOOM`` and cut at a place derived from the seed, the sample and the crop's number, so a view is the same whenever
    it is made.
    """
    zoom, across, down = 1.0, 0.5, 0.5
    if variant.crop:
        generator = torch.Generator().manual_seed(derive_seed(seed, "crop", sample_id, variant.crop))
        first, across, down = torch.rand(3, generator=generator).tolist()
        zoom = 1.0 + first * (MAX_ZOOM - 1.0)
    tall, wide = view
    scale = tall * zoom / size[1] if tall * size[0] >= wide * size[1] else wide * zoom / size[0]
    width, height = max(wide, round(size[0] * scale)), max(tall, round(size[1] * scale))
    return Placement(width, height, round((width - wide) * across), round((height - tall) * down))


def time_ids(size: tuple[int, int], view: Size, variant: Variant, seed: int, sample_id: str) -> tuple[int, ...]:
    """Stable Diffusion XL's size and crop conditioning of a view (Podell et al., 2023, section 2.2): six numbers, in pixels.

    They are the picture's own height and width; the top and left of the cut in the resized picture, which for a mirrored view is
    mirrored too; and the height and width of the view.
    """
    placed = place(size, view, variant, seed, sample_id)
    left = placed.width - view[1] - placed.left if variant.flipped else placed.left
    return size[1], size[0], placed.top, left, *view


def cut(picture: Image.Image, view: Size, variant: Variant, seed: int, sample_id: str) -> torch.Tensor:
    """One view of a picture as the VAE expects it: float32 in [-1, 1], shape (3, height, width).

    The whole picture is transformed if the variant says so and resized with Lanczos, without distortion. The view is cut where
    :func:`place` says, and mirrored if the variant says so.
    """
    if variant.transform:
        picture = TRANSFORMS[variant.transform](picture)
    placed = place(picture.size, view, variant, seed, sample_id)
    box = (placed.left, placed.top, placed.left + view[1], placed.top + view[0])
    resized = picture.resize((placed.width, placed.height), Image.Resampling.LANCZOS).crop(box)
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32).copy()).permute(2, 0, 1) / 127.5 - 1.0
    return pixels.flip(-1) if variant.flipped else pixels


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """Decoded pictures in [-1, 1], shape (N, 3, H, W), as uint8 RGB, shape (N, H, W, 3)."""
    scaled = ((pixels.float() + 1.0) * 127.5).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
