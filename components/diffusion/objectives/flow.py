"""Rectified flow (Liu et al., 2023; Esser et al., 2024): a straight line from the picture to noise, and its velocity."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from components.core.config import TrainingSection
from components.diffusion.objectives.base import Objective
from components.diffusion.objectives.schedulers import FLOW, make_scheduler
from components.diffusion.objectives.times import TimeLaw, shifted

SCALE = 1000.0
"""A time is the noise level σ times this, as in diffusers' flow schedulers; in float32, never rounded to bf16 or to a step."""
LEAST_SIGMA = 0.1
"""Below this level the weight 1/σ² stops growing: at the least of 1,000 levels it would be a million, and one sample all of the loss."""


def even_levels(steps: int) -> list[float]:
    """Unshifted levels from 1 to 1/steps, as most pipelines pass them to their scheduler."""
    return [1.0 - step / steps for step in range(steps)]


class FlowObjective(Objective):
    """x_t = (1 − σ) · x₀ + σ · ε, and ε − x₀ is predicted. A time is 1000 σ.

    ``patch`` is how many latents along a side make one token of the denoiser: dynamic shifts depend on the number of tokens. Where a
    base's pipeline overrides its scheduler's configuration, ``mu`` returns the exponent of the shift for a number of tokens and of
    sampling steps (None in training), and ``sigmas`` the unshifted levels for a number of steps.
    """

    schedulers = FLOW
    prediction_type = "flow"
    span = SCALE

    def __init__(
        self, scheduler_config: Mapping[str, Any], *, patch: int = 2, mu: Callable[[int, int | None], float] | None = None,
        sigmas: Callable[[int], Sequence[float]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(scheduler_config)
        self._patch, self._mu, self._sigmas = patch, mu, sigmas
        self._grids: dict[tuple[int, int], torch.Tensor] = {}
        dynamic = bool(scheduler_config.get("use_dynamic_shifting"))
        static = float(scheduler_config.get("shift") or 1.0)
        self.times = TimeLaw("logit-normal", shift="dynamic" if dynamic else static if static != 1.0 else None, stratified=True)

    def draw_times(self, law: TimeLaw, count: int, generator: torch.Generator, places: int) -> torch.Tensor:
        """1000 σ, float32 of shape (N,), strictly between 0 and 1000 except for rounding.

        On a grid, the nearest times of Euler's method with that many steps, the noisiest of which is 1000.
        """
        levels = law.levels(count, generator, places)
        if law.shift is not None:
            factor = self.shift_for(places) if law.shift == "dynamic" else float(law.shift)
            levels = shifted(levels, factor)
        times = (levels * SCALE).float()
        if law.grid is None:
            return times
        if (law.grid, places) not in self._grids:
            self._grids[law.grid, places] = self.sampler("euler", law.grid, places).timesteps.float().cpu()
        grid = self._grids[law.grid, places]
        return grid[(times.unsqueeze(1) - grid).abs().argmin(dim=1)]

    def shift_for(self, places: int, steps: int | None = None) -> float:
        """The factor of a dynamic shift, for latents of ``places`` = h · w places."""
        mu = self.mu_for(places, steps)
        return mu if self.scheduler_config.get("time_shift_type") == "linear" else math.exp(mu)

    def mu_for(self, places: int, steps: int | None = None) -> float:
        """The ``mu`` that diffusers' scheduler is given for a dynamic shift: by default linear in the number of tokens."""
        tokens = places // self._patch**2
        if self._mu is not None:
            return self._mu(tokens, steps)
        config = self.scheduler_config
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        least, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        slope = (most - least) / (high - low)
        return float(tokens * slope + (least - slope * low))

    def spread_times(self, count: int) -> torch.Tensor:
        """1000 σ at the midpoints of ``count`` equal parts of the line."""
        return (torch.arange(count) + 0.5) * SCALE / count

    def corrupt(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(1 − σ) · x₀ + σ · ε and ε − x₀ (Esser et al., 2024, section 2)."""
        level = (times / SCALE).view(-1, 1, 1, 1)
        return (1.0 - level) * clean + level * noise, noise - clean

    def noise(self, noisy: torch.Tensor, prediction: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """x_t + (1 − σ) · v."""
        return noisy + (1.0 - times / SCALE).view(-1, 1, 1, 1) * prediction

    def log_snr(self, times: torch.Tensor) -> torch.Tensor:
        """2 ln((1 − σ) / σ)."""
        return -2.0 * torch.logit(times / SCALE)

    def loss_weights(self, times: torch.Tensor, training: TrainingSection) -> torch.Tensor | None:
        """The weighting that the configuration names, times min-SNR-γ if it sets γ.

        ``sigma_sqrt`` is 1/σ², at most 100; ``cosmap`` 2 / (π (1 − 2σ + 2σ²)) (Esser et al., 2024, section 3.1). min-SNR-γ (Hang et
        al., 2023) weights the squared error of the picture by min(SNR, γ). The picture's error is σ times the velocity's, so the
        weight here is min((1 − σ)², γ σ²).
        """
        level = times / SCALE
        found: torch.Tensor | None = None
        if training.loss_weighting == "sigma_sqrt":
            found = level.clamp(min=LEAST_SIGMA) ** -2
        elif training.loss_weighting == "cosmap":
            found = 2.0 / (math.pi * (1.0 - 2.0 * level + 2.0 * level**2))
        if training.min_snr_gamma is not None:
            snr = torch.minimum((1.0 - level) ** 2, training.min_snr_gamma * level**2)
            found = snr if found is None else found * snr
        return found

    def sampler(self, name: str, steps: int, places: int, device: torch.device | str = "cpu") -> Any:
        """Euler's method on the base's own levels, shifted as in its diffusers pipeline."""
        self._check_sampler(name)
        scheduler = make_scheduler(name, self.scheduler_config)
        options: dict[str, Any] = {} if self._sigmas is None else {"sigmas": self._sigmas(steps)}
        if self.scheduler_config.get("use_dynamic_shifting"):
            options["mu"] = self.mu_for(places, steps)
        scheduler.set_timesteps(steps, device=device, **options)
        return scheduler
