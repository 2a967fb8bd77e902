"""The denoising loss of training batches and of the validation samples."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator

from components.core.config import TrainingSection
from components.core.content import derive_seed
from components.core.devices import half_attention
from components.diffusion.models.families import Denoiser, Family
from components.diffusion.objectives.losses import draw_noise
from components.diffusion.training.caches import LatentCache, PromptCache
from components.diffusion.training.frozen_base import FrozenBase
from components.diffusion.training.losses import Losses, Noised
from components.diffusion.training.methods import Method
from components.diffusion.training.samples import Batch, Mixer, Sample, step_generator
from components.diffusion.training.variety import Variant


class Denoising:
    """Losses as stateless functions of the seed and the micro-batch number.

    ``denoiser`` and ``encoders`` are the networks as the accelerator wrapped them; ``encoders`` holds only text encoders that train.
    Losses that compare with the base need :attr:`base` to be set.
    """

    def __init__(
        self, family: Family, denoiser: Denoiser, encoders: Mapping[str, torch.nn.Module], latents: LatentCache, prompts: PromptCache,
        mixer: Mixer, accelerator: Accelerator, training: TrainingSection, method: Method, seed: int,
    ) -> None:  # fmt: skip
        self.family, self.denoiser, self.encoders, self.latents, self.prompts = family, denoiser, encoders, latents, prompts
        self.mixer, self.accelerator, self.training, self.method, self.seed = mixer, accelerator, training, method, seed
        self.base: FrozenBase | None = None
        # The base's own conditioning of a prompt stays fixed, even while a text encoder trains.
        self.base_prompts = PromptCache(family, accelerator.device, keep_states=training.cache_text) if encoders else prompts
        self.losses = Losses(method.loss, self._predict, self._predict_base)
        # Gradient checkpointing recomputes blocks in the backward pass, outside the context that chooses the kernel; it must be the same.
        plain = accelerator.mixed_precision == "bf16" and not training.gradient_checkpointing
        self.attention = half_attention if plain else nullcontext
        sections = [training.times, training.aux_times or training.times]
        self.laws = [family.objective.law(each.model_copy(update={"grid": each.grid or method.grid})) for each in sections]

    def loss(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The weighted loss of one micro-batch, and the unweighted means of its StyleRef losses and of its prior (Aux or distillation)."""
        batch = self.mixer.batch(number)
        groups = self.latents.by_bucket(batch.samples)
        # One group per bucket, as pictures of different sizes cannot be stacked. Sums and means are still over the whole micro-batch.
        parts = [self._losses(batch, number, group) for group in groups]
        order = torch.tensor(list(itertools.chain(*groups)), device=self.accelerator.device).argsort()
        losses, by_time, *distilled = (torch.cat(values)[order] for values in zip(*parts, strict=True))
        weights = batch.weights.to(self.accelerator.device) * by_time
        total, plain = (losses * weights).sum(), losses.detach()
        prior = plain[batch.instances :].mean() if len(plain) > batch.instances else plain.new_zeros(())
        for differences in distilled:
            total, prior = total + self.method.prior_weight * (differences * by_time).mean(), differences.detach().mean()
        return total, plain[: batch.instances].mean(), prior

    def _losses(self, batch: Batch, number: int, group: list[int]) -> list[torch.Tensor]:
        """Losses of one bucket's samples, their weights by time and, with distillation, its losses; each of shape (N,)."""
        noised, words = self._noised(batch, number, group), [batch.words[place] for place in group]
        by_time = self.family.objective.loss_weights(noised.times, self.training)
        if self.method.loss.name == "denoising" and not self.method.distills:
            losses = self.losses.denoising(noised, words)
        else:
            # StyleRef comes first in a micro-batch, and so in each of its groups.
            style = sum(place < batch.instances for place in group)
            losses = torch.zeros(len(group), device=noised.latents.device)
            if style:
                losses = torch.cat([self.losses.style(noised.rows(slice(style)), words[:style]), losses[style:]])
            if style < len(group) and not self.method.distills:
                losses = torch.cat([losses[:style], self.losses.denoising(noised.rows(slice(style, None)), words[style:])])
        found = [losses, torch.ones_like(losses) if by_time is None else by_time]
        return [*found, self.losses.distillation(noised, words)] if self.method.distills else found

    @torch.no_grad()
    def _noised(self, batch: Batch, number: int, group: list[int]) -> Noised:
        """The noised samples of one bucket; noise and times depend on their places in the whole micro-batch."""
        samples, variants = [batch.samples[place] for place in group], [batch.variants[place] for place in group]
        rows = [self.mixer.rows[place] for place in group]
        moments = self.latents.moments(samples, variants)
        # Each draw has its own generator and is made for the whole micro-batch, of which this process takes its rows.
        shape = torch.Size((self.mixer.total, moments.shape[1] // 2, *moments.shape[2:]))
        device = self.accelerator.device
        clean = self.family.sample_latents(moments, draw_noise(shape, step_generator(self.seed, "latent", number))[rows].to(device))
        noise = draw_noise(shape, step_generator(self.seed, "noise", number), self.training.noise_offset)[rows].to(device)
        times = self._draw_times(number, shape[-2] * shape[-1])[rows].to(device)
        noisy, target = self.family.objective.corrupt(clean, noise, times)
        return Noised(noisy, times, self.latents.time_ids(samples, variants), target)

    @torch.no_grad()
    def validation(self, samples: Sequence[Sample]) -> float:
        """Mean loss of samples at evenly spread times, with the same noise at every call."""
        device = self.accelerator.device
        times = self.family.objective.spread_times(len(samples)).to(device)
        losses = []
        for group in self.latents.by_bucket(samples):
            chosen = [samples[place] for place in group]
            whole = [Variant()] * len(group)
            clean = self.family.sample_latents(self.latents.moments(chosen, whole), None)
            shape = torch.Size((len(samples), *clean.shape[1:]))
            noise = draw_noise(shape, torch.Generator().manual_seed(derive_seed(self.seed, "validation")))[group].to(device)
            noisy, target = self.family.objective.corrupt(clean, noise, times[group])
            noised = Noised(noisy, times[group], self.latents.time_ids(chosen, whole), target)
            for part in torch.arange(len(group)).split(max(self.mixer.size, 4)):
                losses.append(self.losses.style(noised.rows(part.to(device)), [chosen[place].words() for place in part.tolist()]))
        return float(torch.cat(losses).mean())

    def _draw_times(self, number: int, places: int) -> torch.Tensor:
        """Times of a whole micro-batch: StyleRef samples draw from one distribution, Aux samples from the other."""
        generator = step_generator(self.seed, "timestep", number)
        groups = zip(self.laws, self.mixer.counts, strict=False)
        return torch.cat([self.family.objective.draw_times(law, count, generator, places) for law, count in groups])

    def _predict(self, noised: Noised, prompts: Sequence[str]) -> torch.Tensor:
        """The denoiser's prediction, shape (N, C, h, w), with gradients for what trains."""
        # Trained parts carry their own autocast; this one is for frozen parts that gradients only pass through.
        with self.accelerator.autocast(), self.attention(self.accelerator.device):
            conditioning = self.prompts.encode(prompts, self.encoders, noised.times)
            return self.family.predict(
                noised.latents, noised.times, conditioning, self.denoiser, noised.time_ids, self.training.guidance_embedding
            )

    def _predict_base(self, noised: Noised, prompts: Sequence[str]) -> torch.Tensor:
        """The frozen base's prediction, shape (N, C, h, w), without gradients."""
        assert self.base is not None
        with self.base.in_place(), self.accelerator.autocast(), self.attention(self.accelerator.device):
            conditioning = self.base_prompts.encode(prompts, times=noised.times)
            return self.family.predict(noised.latents, noised.times, conditioning, None, noised.time_ids, self.training.guidance_embedding)
