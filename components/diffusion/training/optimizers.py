"""Optimizers by name, each from a maintained library: their options, the size of their state, and their default learning rates."""

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from components.core.config import TrainingSection
from components.core.errors import ConfigError
from components.diffusion.training.stochastic_rounding import StochasticallyRounded

Groups = list[dict[str, Any]]
"""Parameter groups that hold ``params`` and ``lr``."""
SMALL = 4096
"""bitsandbytes keeps the state of tensors with fewer values in fp32."""
BLOCK = 256
"""Number of values of an 8-bit state that share a scale."""


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that a configuration can name.

    ``state`` returns the bytes of its state for an fp32 tensor of a given shape. ``rate`` turns the method's learning rate, which is for
    AdamW, into this optimizer's default. ``module``, if any, must be installed; it comes with the extra ``optimizers``.
    """

    make: Callable[[Groups, TrainingSection], torch.optim.Optimizer]
    state: Callable[[Sequence[int]], float]
    rate: Callable[[float], float] = float
    module: str | None = None


def _adamw(groups: Groups, training: TrainingSection) -> torch.optim.Optimizer:
    # The fused kernel takes a third of the time of the others, on the CPU too.
    return torch.optim.AdamW(groups, fused=True, **_adam_options(training))


def _adamw8bit(groups: Groups, training: TrainingSection) -> torch.optim.Optimizer:
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(groups, **_adam_options(training))
    return optimizer


def _adafactor(groups: Groups, training: TrainingSection) -> torch.optim.Optimizer:
    # Steps are relative to the root mean square of a tensor's weights, or to the second number of eps if that is larger. With 1 the
    # learning rate is absolute, as AdamW's is; otherwise LoRA's matrices that start at zero would hardly move.
    return torch.optim.Adafactor(groups, eps=(None, 1.0), weight_decay=training.weight_decay)


def _prodigy(groups: Groups, training: TrainingSection) -> torch.optim.Optimizer:
    from pytorch_optimizer import Prodigy

    optimizer: torch.optim.Optimizer = Prodigy(
        # Its default is infinity, which checkpoints could not hold, as JSON has none.
        groups, growth_rate=1e38, safeguard_warmup=training.warmup_steps > 0, **_adam_options(training),
    )  # fmt: skip
    return optimizer


def _lion(groups: Groups, training: TrainingSection) -> torch.optim.Optimizer:
    from pytorch_optimizer import Lion

    betas = training.adam_betas or (0.9, 0.99)
    optimizer: torch.optim.Optimizer = Lion(groups, betas=betas, weight_decay=training.weight_decay)
    return optimizer


def _schedule_free(groups: Groups, training: TrainingSection) -> torch.optim.Optimizer:
    from pytorch_optimizer import ScheduleFreeAdamW

    optimizer: torch.optim.Optimizer = ScheduleFreeAdamW(groups, **_adam_options(training))
    return optimizer


def _adam_options(training: TrainingSection) -> dict[str, Any]:
    return {"betas": training.adam_betas or (0.9, 0.999), "eps": training.adam_epsilon, "weight_decay": training.weight_decay}


def _copies(count: int) -> Callable[[Sequence[int]], float]:
    """State of ``count`` fp32 numbers per parameter."""
    return lambda shape: 4.0 * count * math.prod(shape)


def _eight_bit(shape: Sequence[int]) -> float:
    size = math.prod(shape)
    # Two moments of one byte each, and an fp32 scale for each block of them.
    return 2.0 * (size + 4 * math.ceil(size / BLOCK)) if size >= SMALL else 8.0 * size


def _factored(shape: Sequence[int]) -> float:
    size = math.prod(shape)
    return 4.0 * (size / shape[-1] + size / shape[-2]) if len(shape) > 1 else 4.0 * size


OPTIMIZERS = {
    # Loshchilov & Hutter, 2019.
    "adamw": Optimizer(_adamw, _copies(2)),
    # Dettmers et al., 2022.
    "adamw8bit": Optimizer(_adamw8bit, _eight_bit, module="bitsandbytes"),
    # Shazeer & Stern, 2018.
    "adafactor": Optimizer(_adafactor, _factored),
    # Mishchenko & Defazio, 2024: it estimates the rate itself, and the configured one multiplies that.
    "prodigy": Optimizer(_prodigy, _copies(4), rate=lambda _: 1.0, module="pytorch_optimizer"),
    # Chen et al., 2023, section 5: a rate 3 to 10 times smaller than AdamW's.
    "lion": Optimizer(_lion, _copies(1), rate=lambda rate: rate / 5.0, module="pytorch_optimizer"),
    # Defazio et al., 2024.
    "schedule-free": Optimizer(_schedule_free, _copies(2), module="pytorch_optimizer"),
}


def check_optimizer(training: TrainingSection) -> None:
    """Refuse (ConfigError) an optimizer whose library is not installed."""
    module = OPTIMIZERS[training.optimizer].module
    if module and importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise ConfigError(
            "training.optimizer", f"{training.optimizer} needs {package}, which is not installed", expected="adamw or adafactor",
            remedy=f"run `pip install {package}`, or install `styleforge[optimizers]`",
        )  # fmt: skip


def make_optimizer(groups: Groups, training: TrainingSection, seed: int = 0) -> torch.optim.Optimizer:
    """The configured optimizer. Parameters in bf16 are rounded stochastically, by ``seed``."""
    make = OPTIMIZERS[training.optimizer].make
    if any(value.dtype == torch.bfloat16 for group in groups for value in group["params"]):
        return StochasticallyRounded(groups, lambda each: make(each, training), seed)
    return make(groups, training)


def learning_rate(training: TrainingSection, reference: float) -> float:
    """The learning rate: the configured one, else the method's ``reference`` converted for the optimizer."""
    return training.learning_rate or reference_rate(training, reference)


def reference_rate(training: TrainingSection, reference: float) -> float:
    """A method's own learning rate, converted for the configured optimizer."""
    return OPTIMIZERS[training.optimizer].rate(reference)


def state_bytes(optimizer: str, shape: Sequence[int]) -> float:
    """Bytes of an optimizer's state for one trained tensor, the same whether its weights are in fp32 or in bf16."""
    return OPTIMIZERS[optimizer].state(shape)
