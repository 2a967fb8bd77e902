"""The training log, one row per step; it ends a training that diverges."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate import Accelerator

from components.core.errors import TrainingDiverged
from components.diffusion.training.checkpoints import Checkpoints

READ_EVERY = 10
"""Steps between two reads of the losses on an accelerator, since each read waits for it. On the CPU every step is read."""


class TrainingLog:
    """Rows of finished steps, read from the device every few steps. ``rows`` has one dict per step that was read."""

    def __init__(self, accelerator: Accelerator, checkpoints: Checkpoints) -> None:
        self._accelerator, self._checkpoints = accelerator, checkpoints
        self.rows: list[dict[str, Any]] = []
        self._unread: list[tuple[int, float, torch.Tensor]] = []

    def add(self, step: int, rate: float, values: torch.Tensor, *, read: bool) -> None:
        """Add a step: its learning rate, and (loss, StyleRef loss, prior loss, gradient norm) of this process.

        Raises TrainingDiverged as :meth:`_read` does, which is called at once where ``read`` is set.
        """
        self._unread.append((step, rate, values))
        if read or self._accelerator.device.type == "cpu" or len(self._unread) >= READ_EVERY:
            self._read()

    def note(self) -> str:
        """The mean loss of the last 20 rows as text; empty without rows."""
        recent = self.rows[-20:]
        return f"loss {sum(row['loss'] for row in recent) / len(recent):.4f}, " if recent else ""

    def _read(self) -> None:
        """Move finished steps into the rows, averaged over all processes; TrainingDiverged if a loss or gradient norm is not finite."""
        means: torch.Tensor = self._accelerator.reduce(torch.stack([values for _, _, values in self._unread]), "mean")
        for (step, rate, _), (loss, instance, aux, norm) in zip(self._unread, means.tolist(), strict=True):
            # The fp16 scaler skips steps with infinite gradients and lowers its scale: that is expected, not a fault.
            if not math.isfinite(loss) or not (math.isfinite(norm) or self._accelerator.scaler is not None):
                raise TrainingDiverged(
                    f"training step {step}",
                    f"the loss is {loss:g} and the gradient norm {norm:g} at learning rate {rate:g}; "
                    f"the last good checkpoint is {self._checkpoints.last or 'none, as the first was not reached'}",
                    expected="finite numbers",
                    remedy="lower training.learning_rate, lengthen training.warmup_steps, or use mixed_precision bf16 or no, not fp16",
                )
            self.rows.append({"step": step, "loss": loss, "instance_loss": instance, "aux_loss": aux, "lr": rate, "gradient_norm": norm})
        self._unread.clear()
