"""How weights are updated: autocast, the learning-rate schedule, the moving average. For the optimizers see ``optimizers``."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from diffusers.training_utils import EMAModel

from components.core.config import TrainingSection

_logger = logging.getLogger(__name__)
LONGEST_WAIT = timedelta(hours=1)
"""How long a process waits for another; the longest wait is until the first has written the model and drawn its validation pictures."""


def precision_for(requested: str, device: torch.device) -> str:
    """The autocast type that is used: the requested one, unless this processor would only emulate it.

    bf16 products are emulated at about a hundredth of fp32's speed on processors without AVX512-BF16 or AMX, and fp16
    needs a GPU.
    """
    if requested == "no" or device.type != "cpu":
        return requested
    capabilities = torch.cpu.get_capabilities()
    if requested == "bf16" and (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")):
        return requested
    _logger.warning("training.mixed_precision=%s is not native to this processor: training in fp32", requested)
    return "no"


def make_accelerator(precision: str, accumulation: int, device: torch.device) -> Accelerator:
    """Make a fresh accelerator: accelerate would remember the precision of a process's first one and refuse any other."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
    # Otherwise every process would hold its gradients twice.
    parallel = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    return Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=accumulation,
        cpu=device.type == "cpu",
        kwargs_handlers=[parallel, InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )


def rate_factor(step: int, training: TrainingSection) -> float:
    """Learning rate of optimizer step ``step`` (1 … steps) as a fraction of the configured one.

    It rises linearly over the warm-up and reaches 1 at the warm-up's last step; then it stays (``constant``), or falls toward 0
    at the end of training, linearly (``linear``) or along a half cosine (``cosine``).
    """
    if step <= training.warmup_steps:
        return step / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    done = (step - training.warmup_steps - 1) / max(1, training.steps - training.warmup_steps)
    return 1.0 - done if training.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


class MovingAverage:
    """Exponential moving average of weights (diffusers' ``EMAModel``, which begins with a faster average), or nothing.

    ``decay`` is the weight of the past; 0 turns it off. ``parameters`` come in a fixed order.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._model = EMAModel(self._parameters, decay=decay, foreach=True) if decay else None

    def update(self) -> None:
        """Update the average with the current weights."""
        if self._model:
            self._model.step(self._parameters)

    def finish(self) -> None:
        """Replace the weights with the average."""
        if self._model:
            self._model.copy_to(self._parameters)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state as tensors; empty if the average is off."""
        if not self._model:
            return {}
        steps = {"steps": torch.tensor(self._model.optimization_step)}
        return {**{str(index): value for index, value in enumerate(self._model.shadow_params)}, **steps}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore the state of :meth:`tensors`."""
        if self._model:
            self._model.optimization_step = int(tensors["steps"])
            for index, value in enumerate(self._model.shadow_params):
                value.copy_(tensors[str(index)])
