"""The interface of objectives: noise of T discrete steps, or a straight flow from noise to picture, behind one set of questions."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from components.core.config import TimesSection, TrainingSection
from components.core.errors import ConfigError
from components.diffusion.objectives.schedulers import Samplers
from components.diffusion.objectives.times import TimeLaw


class Objective(abc.ABC):
    """How a base is trained: what a time is, how it corrupts, what the denoiser predicts, and how losses weigh.

    A larger time is always more noise. ``scheduler_config`` is the noise schedule of the base, as its folder says.
    """

    schedulers: ClassVar[Samplers]
    """The samplers that fit, by name."""
    prediction_type: str
    """What is predicted: ``epsilon``, ``v_prediction`` or ``flow``."""
    times: TimeLaw
    """The law of times that the base was trained with, as far as that is known: the default."""

    span: float
    """The time of most noise: T steps, or 1000 σ."""

    def __init__(self, scheduler_config: Mapping[str, Any]) -> None:
        self.scheduler_config = dict(scheduler_config)

    def law(self, section: TimesSection) -> TimeLaw:
        """The law of times that a configuration asks for; what it leaves open is :attr:`times`'."""
        return self.times.changed(section)

    @abc.abstractmethod
    def draw_times(self, law: TimeLaw, count: int, generator: torch.Generator, places: int) -> torch.Tensor:
        """Times to train at, shape (N,), on the CPU, for pictures whose latents have ``places`` = h · w places."""

    @abc.abstractmethod
    def spread_times(self, count: int) -> torch.Tensor:
        """Evenly spread times to validate at, shape (N,), on the CPU: the middles of ``count`` equal parts of the schedule."""

    @abc.abstractmethod
    def corrupt(self, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noisy latents and what the denoiser should predict for them, each of shape (N, C, h, w)."""

    @abc.abstractmethod
    def noise(self, noisy: torch.Tensor, prediction: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """The noise that the denoiser's prediction for noisy latents says is in them, shape (N, C, h, w)."""

    @abc.abstractmethod
    def log_snr(self, times: torch.Tensor) -> torch.Tensor:
        """ln(signal² / noise²) at each time, shape (N,)."""

    def stages(self, times: torch.Tensor, count: int) -> torch.Tensor:
        """Which of ``count`` equal parts of the times each is in, 0 with the least noise, integers of shape (N,): ⌊count · t / T⌋."""
        return (count * times / self.span).floor().long().clamp(0, count - 1)

    @abc.abstractmethod
    def loss_weights(self, times: torch.Tensor, training: TrainingSection) -> torch.Tensor | None:
        """Weight of each sample's loss by its time, shape (N,); None where all weigh the same."""

    @abc.abstractmethod
    def sampler(self, name: str, steps: int, places: int, device: torch.device | str = "cpu") -> Any:
        """A scheduler of diffusers with its timesteps set, for latents of ``places`` = h · w; ConfigError for a name that does not fit."""

    def _check_sampler(self, name: str) -> None:
        if name not in self.schedulers:
            raise ConfigError(
                f"sampling.scheduler={name}", "does not go with what this base predicts", expected=f"one of {', '.join(self.schedulers)}"
            )
