"""The common interface of objectives: noise in T discrete steps, or a straight flow from noise to picture."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from components.core.config import TimesSection, TrainingSection
from components.core.errors import ConfigError
from components.diffusion.objectives.schedulers import Samplers
from components.diffusion.objectives.times import TimeLaw


class Objective(abc.ABC):
    """How a base is trained: what a time is, how pictures are corrupted, what the denoiser predicts, and how losses are weighted.

    A larger time always means more noise. ``scheduler_config`` is the base's noise schedule, read from its folder.
    """

    schedulers: ClassVar[Samplers]
    """The samplers that fit, by name."""
    prediction_type: str
    """What is predicted: ``epsilon``, ``v_prediction`` or ``flow``."""
    times: TimeLaw
    """The default law of times: the one that the base was trained with, as far as it is known."""

    span: float
    """The time of most noise: T for discrete steps, 1000 for a flow."""

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        self.scheduler_config = dict(scheduler_config)

    def law(self, section: TimesSection) -> TimeLaw:
        """The law of times that a configuration asks for, completed from :attr:`times`."""
        return self.times.changed(section)

    @abc.abstractmethod
    def draw_times(self, law: TimeLaw, count: int, generator: torch.Generator, places: int) -> torch.Tensor:
        """Draw times to train at, shape (N,), on the CPU, for pictures whose latents have ``places`` = h · w places."""

    @abc.abstractmethod
    def spread_times(self, count: int) -> torch.Tensor:
        """Evenly spaced times to validate at, shape (N,), on the CPU: the midpoints of ``count`` equal parts of the schedule."""

    @abc.abstractmethod
    def corrupt(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The noisy latents, and what the denoiser should predict for them, each of shape (N, C, h, w)."""

    @abc.abstractmethod
    def noise(self, noisy: torch.Tensor, prediction: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """The noise in noisy latents according to the denoiser's prediction for them, shape (N, C, h, w)."""

    @abc.abstractmethod
    def log_snr(self, times: torch.Tensor) -> torch.Tensor:
        """ln(signal² / noise²) at each time, shape (N,)."""

    def stages(self, times: torch.Tensor, count: int) -> torch.Tensor:
        """The stage ⌊count · t / T⌋ of each time, of ``count`` equal stages from 0, the least noisy; integers of shape (N,)."""
        return (count * times / self.span).floor().long().clamp(0, count - 1)

    @abc.abstractmethod
    def loss_weights(self, times: torch.Tensor, training: TrainingSection) -> torch.Tensor | None:
        """Weight of each sample's loss by its time, shape (N,); None if all weights are equal."""

    @abc.abstractmethod
    def sampler(self, name: str, steps: int, places: int, device: torch.device | str = "cpu") -> Any:
        """A diffusers scheduler with its timesteps set, for ``places`` = h · w latents; raises ConfigError for a name that does not fit."""

    def _check_sampler(self, name: str) -> None:
        if name not in self.schedulers:
            raise ConfigError(
                f"sampling.scheduler={name}", "does not suit what this base predicts", expected=f"one of {', '.join(self.schedulers)}"
            )
