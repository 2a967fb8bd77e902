"""Encode pictures to the latents that drawing starts from or is aligned with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from components.core.errors import InputError
from components.core.images import HARD_MAX_PIXELS, load_rgb
from components.diffusion.models.families import Family
from components.diffusion.training.buckets import Size
from components.diffusion.training.pictures import Variant, cut

CENTRE = Variant()


def pixels_of(path: Path, size: Size) -> torch.Tensor:
    """A picture resized and cut to ``size``, float32 in [-1, 1], (3, H, W)."""
    return cut(load_rgb(path, HARD_MAX_PIXELS), size, CENTRE, 0, str(path))


def encode(family: Family, paths: Sequence[Path], size: Size) -> torch.Tensor:
    """Latents of pictures cut to a size, (N, C, h, w): the VAE's means. InputError names a picture whose latents are not finite."""
    pixels = torch.stack([pixels_of(path, size) for path in paths]).to(family.device)
    latents = family.sample_latents(family.encode_images(pixels), None)
    for path, row in zip(paths, latents, strict=True):
        if not torch.isfinite(row).all():
            raise InputError(str(path), "the model's VAE gives NaN or infinity for this image", expected="finite latents")
    return latents
