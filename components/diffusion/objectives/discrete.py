"""Noise in T discrete steps (Ho et al., 2020), with ε- or v-prediction: Stable Diffusion 1.x, 2.x and XL."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from components.core.config import TimesSection, TrainingSection
from components.core.errors import ConfigError
from components.diffusion.objectives.base import Objective
from components.diffusion.objectives.losses import min_snr_weights
from components.diffusion.objectives.schedulers import DISCRETE, make_scheduler
from components.diffusion.objectives.times import TimeLaw


class DiscreteObjective(Objective):
    """A time is one of the schedule's T integer timesteps, and x_t = √ᾱ_t · x₀ + √(1 − ᾱ_t) · ε."""

    schedulers = DISCRETE
    times = TimeLaw("uniform")

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        from diffusers import DDPMScheduler

        super().__init__(scheduler_config)
        # The noise schedule that the base was trained with; samplers by name are made from the same configuration.
        schedule = {key: value for key, value in scheduler_config.items() if not key.startswith("_")}
        self.schedule = DDPMScheduler.from_config({**schedule, "clip_sample": False})
        self.prediction_type = self.schedule.config["prediction_type"]
        self.span = float(len(self.schedule.alphas_cumprod))

    def law(self, section: TimesSection) -> TimeLaw:
        """Uniform timesteps unless configured otherwise; raises ConfigError for a dynamic shift or a grid of more than T steps."""
        steps = len(self.schedule.alphas_cumprod)
        if section.grid and section.grid > steps:
            raise ConfigError(f"training.times.grid={section.grid}", f"the base has {steps} timesteps", expected=f"at most {steps}")
        if section.shift == "dynamic":
            raise ConfigError("training.times.shift=dynamic", "only flow bases shift by the image's size", expected="a number, or none")
        return super().law(section)

    def draw_times(self, law: TimeLaw, count: int, generator: torch.Generator, places: int) -> torch.Tensor:
        """Draw timesteps, int64 of shape (N,).

        A law's level is a fraction of the schedule. Laws of log-SNR and shifted laws take the timestep of the nearest log-SNR instead.
        On a grid of n, a timestep t becomes ⌊n · t / T⌋ · ⌊T / n⌋, a multiple of ⌊T / n⌋ as in samplers with leading spacing.
        """
        if law.grid:
            times, steps = self.draw_times(dataclasses.replace(law, grid=None), count, generator, places), len(self.schedule.alphas_cumprod)
            return times * law.grid // steps * (steps // law.grid)
        steps = len(self.schedule.alphas_cumprod)
        if law == TimeLaw("uniform"):
            return torch.randint(0, steps, (count,), generator=generator)
        levels = law.levels(count, generator, places)
        times = (levels * steps).long().clamp(max=steps - 1)
        if not law.of_logits and law.shift is None:
            return times
        log_snr = -2.0 * torch.logit(levels) if law.of_logits else self.log_snr(times).double()
        wanted = log_snr - 2.0 * math.log(float(law.shift or 1.0))
        everywhere = self.log_snr(torch.arange(steps)).double()
        return (everywhere - wanted.unsqueeze(1)).abs().argmin(dim=1)

    def spread_times(self, count: int) -> torch.Tensor:
        """The midpoints of ``count`` equal parts of the schedule."""
        return ((torch.arange(count) + 0.5) * len(self.schedule.alphas_cumprod) / count).long()

    def corrupt(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """√ᾱ_t · x₀ + √(1 − ᾱ_t) · ε (Ho et al., 2020, equation 4), and ε or v (Salimans & Ho, 2022, section 4)."""
        noisy: torch.Tensor = self.schedule.add_noise(clean, noise, times)
        return noisy, noise if self.prediction_type == "epsilon" else self.schedule.get_velocity(clean, noise, times)

    def noise(self, noisy: torch.Tensor, prediction: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """The prediction itself if it is ε; √ᾱ_t · v + √(1 − ᾱ_t) · x_t if it is v (Salimans & Ho, 2022, appendix D).

        Times are rounded to the schedule's, since some samplers use times between two of them.
        """
        if self.prediction_type == "epsilon":
            return prediction
        alpha = self.schedule.alphas_cumprod.to(noisy.device)[times.float().round().long()].view(-1, 1, 1, 1)
        return alpha.sqrt() * prediction + (1.0 - alpha).sqrt() * noisy

    def log_snr(self, times: torch.Tensor) -> torch.Tensor:
        """ln(ᾱ_t / (1 − ᾱ_t)); −∞ at zero terminal SNR."""
        return self._snr(times).log()

    def _snr(self, times: torch.Tensor) -> torch.Tensor:
        # Not diffusers' compute_snr, which squares a quotient of roots: its rounding would change every trained model.
        # Some samplers use times between two of the schedule's.
        nearest = times.round().long() if times.is_floating_point() else times
        alpha = self.schedule.alphas_cumprod.to(times.device)[nearest].float()
        return alpha / (1.0 - alpha)

    def loss_weights(self, times: torch.Tensor, training: TrainingSection) -> torch.Tensor | None:
        """min-SNR-γ, if the configuration sets γ: see :func:`components.diffusion.objectives.losses.min_snr_weights`."""
        if training.min_snr_gamma is None:
            return None
        return min_snr_weights(self._snr(times), training.min_snr_gamma, self.prediction_type)

    def sampler(self, name: str, steps: int, places: int, device: torch.device | str = "cpu") -> Any:
        """A scheduler from the base's own noise schedule; the picture's size does not matter."""
        self._check_sampler(name)
        scheduler = make_scheduler(name, self.scheduler_config)
        scheduler.set_timesteps(steps, device=device)
        return scheduler
