"""Redraw a user's own pictures in a learned style: noise them to a level and denoise from there by the style's prompt.

This is SDEdit (Meng et al., 2022) with the common sampler; the noise may be the model's own prediction, as in InST (Zhang et al., 2023,
arXiv 2211.13203). As a cheap baseline there is AdaIN of latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.core.config import SamplingSection
from components.core.content import derive_seed
from components.diffusion.models.bundle import Bundle
from components.diffusion.models.families import Family
from components.diffusion.sampling.jobs import Job, PromptRequest
from components.diffusion.sampling.latents import encode, pixels_of
from components.diffusion.sampling.sampler import describe, draw_batches, is_drawn, write_png
from components.diffusion.training.buckets import Size, bucket_for, bucket_sizes
from components.diffusion.training.caches import PromptCache
from components.diffusion.training.pictures import to_uint8

Moments = tuple[torch.Tensor, torch.Tensor]
"""Means and standard deviations of channels."""


@dataclass(frozen=True)
class Content:
    """A picture to restyle: its file with the sha256 of its bytes, its size (width, height) in pixels, and the prompt that draws it."""

    path: Path
    sha256: str
    size: tuple[int, int]
    request: PromptRequest


@dataclass(frozen=True)
class Manner:
    """How far a picture is redrawn.

    ``strength`` is the share of the sampler's steps that are taken: 0 returns the picture as the VAE decodes it, 1 starts from the
    sampler's first noise level. With ``keep_structure`` the noise is what the model itself predicts for the picture at its level, which
    preserves the picture's structure; otherwise it is random.
    """

    strength: float = 0.6
    keep_structure: bool = False

    def first_step(self, steps: int) -> int:
        """The number of the first of ``steps`` steps that is taken; at least one is, unless the strength is 0."""
        taken = max(1, round(self.strength * steps)) if self.strength else 0
        return steps - taken


def group_by_size(family: Family, contents: Sequence[Content], settings: SamplingSection) -> dict[Size, list[Content]]:
    """The pictures by the size, (height, width) in pixels, that each is cut to.

    As in training, it is the size that keeps most of the picture, among those of about the area that the model draws.
    """
    height, width = family.picture_size(settings)
    sizes = [(height, width), *bucket_sizes(round(math.sqrt(height * width)), family.size_step)]
    sizes = [size for size in dict.fromkeys(sizes) if family.takes(size)]
    groups: dict[Size, list[Content]] = {}
    for content in contents:
        groups.setdefault(bucket_for(content.size, sizes), []).append(content)
    return groups


def as_cut(path: Path, size: Size) -> np.ndarray:
    """A picture as it enters restyling: resized and cut to ``size``, uint8 (H, W, 3)."""
    return to_uint8(pixels_of(path, size).unsqueeze(0))[0]


def restyle(
    bundle: Bundle, contents: Sequence[Content], size: Size, settings: SamplingSection, seed: int, manner: Manner, files: Mapping[str, Path]
) -> Iterator[int]:
    """Restyle pictures of one size into ``files``, by request id; yields the number of existing ones, then of those done with each batch.

    A file that was drawn from the same picture by the same model and settings is kept. A picture is the same whatever the batch, as with
    :func:`components.diffusion.sampling.sampler.sample_bank`.

    Raises:
        InputError: the VAE gives NaN for a picture.
        StyleForgeError: the model draws NaN.
        StorageError: the disk refused; finished pictures are kept.
    """
    settings = settings.model_copy(update={"height": size[0], "width": size[1]})
    jobs = {Job(content.request, 0, derive_seed(seed, "restyle", content.request.id)): content for content in contents}
    about = {job: restyled_from(job, content, bundle, settings, manner) for job, content in jobs.items()}
    missing = [job for job in jobs if not is_drawn(files[job.request.id], about[job])]
    yield len(jobs) - len(missing)
    start = partial(_start, bundle.family, jobs, size, manner, bundle.family.drawing(settings).guidance)
    for batch, pixels in draw_batches(bundle, missing, settings, start=start):
        for job, picture in zip(batch, pixels, strict=True):
            write_png(files[job.request.id], picture, about[job])
        yield len(batch)


def restyled_from(job: Job, content: Content, bundle: Bundle, settings: SamplingSection, manner: Manner) -> dict[str, Any]:
    """Everything that a restyled picture depends on, as it is written into its file."""
    return {**describe(job, bundle, settings), "source": content.sha256, **vars(manner)}


def _start(
    family: Family, contents: Mapping[Job, Content], size: Size, manner: Manner, guidance: float, jobs: Sequence[Job], noise: torch.Tensor,
    scheduler: Any, prompts: PromptCache,
) -> tuple[torch.Tensor, int]:  # fmt: skip
    """A ``Start`` of the sampler: latents of the jobs' pictures at the noise level of the first step taken, and its number."""
    clean = encode(family, [contents[job].path for job in jobs], size)
    first = manner.first_step(len(scheduler.timesteps))
    if first == len(scheduler.timesteps):
        return clean, first
    noisy = _noised(scheduler, clean, noise, first)
    if manner.keep_structure:
        time = scheduler.timesteps[first]
        scaled = scheduler.scale_model_input(noisy, time) if hasattr(scheduler, "scale_model_input") else noisy
        conditioning = prompts.encode(family.at_times([job.request.full_prompt for job in jobs], time))
        prediction = family.predict(scaled, time, conditioning, guidance=guidance)
        noisy = _noised(scheduler, clean, family.objective.noise(scaled, prediction, time.expand(len(jobs))), first)
    return noisy, first


def _noised(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, first: int) -> torch.Tensor:
    """Latents noised to the level of step ``first``, as the sampler scales them; the sampler is set to begin at that step."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    times = scheduler.timesteps[first].expand(len(clean))
    # Flow schedulers have another name for it, and another order of arguments.
    noisy = scheduler.scale_noise(clean, times, noise) if hasattr(scheduler, "scale_noise") else scheduler.add_noise(clean, noise, times)
    return torch.as_tensor(noisy)


def moments(latents: torch.Tensor) -> Moments:
    """Mean and standard deviation over the places of each channel of latents (N, C, h, w), each of shape (N, C)."""
    return latents.mean(dim=(2, 3)), latents.std(dim=(2, 3), unbiased=False)


def adain(content: torch.Tensor, style: Moments) -> torch.Tensor:
    """Latents (N, C, h, w) with the mean and standard deviation of each channel set to the style's, (C,) or (N, C) each.

    Huang & Belongie, 2017, equation 8.
    """
    mean, std, style_mean, style_std = (row[..., None, None] for row in (*moments(content), *style))
    return style_std * (content - mean) / std.clamp(min=1e-6) + style_mean


def style_moments(bundle: Bundle, style_ref: Sequence[Path], size: Size) -> Moments:
    """Moments of the latents of StyleRef pictures, cut to a size: the mean over the pictures, (C,) each."""
    bundle.family.turn("vae")
    found = [moments(encode(bundle.family, [path], size)) for path in style_ref]
    mean, std = (torch.cat(rows).mean(0) for rows in zip(*found, strict=True))
    return mean, std


def transfer_moments(bundle: Bundle, paths: Sequence[Path], size: Size, style: Moments) -> np.ndarray:
    """The baseline without a learned style: pictures with the statistics of the style's latents, uint8 (N, H, W, 3)."""
    bundle.family.turn("vae")
    return to_uint8(bundle.family.decode_latents(adain(encode(bundle.family, paths, size), style)))
