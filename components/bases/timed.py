"""Training against the clock: a time budget, a schedule over the used part of it, checkpoints and a loss log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from components.core.content import derive_seed
from components.core.devices import can_compile, default_device, half_attention
from components.core.errors import TrainingDiverged
from components.core.logs import progress
from components.core.paths import atomic_file, storage_errors

SAVE_EVERY = 120.0
"""Seconds between checkpoints, and thus the most work that an interruption can lose."""
LOG_EVERY = 25
"""Steps between two rows of the log."""
COMPILING = 600.0
"""Budget, in seconds, above which a training is compiled, which halves the time of the flow base's steps."""


class TimedRun:
    """Training of one part of a base for ``budget`` seconds, resumable at any time: call :meth:`learn` in each of :meth:`steps`.

    Elapsed time is kept across resumes, so the schedule, which follows the used fraction of the budget, continues where it was.
    """

    def __init__(
        self, folder: Path, part: str, budget: float, modules: dict[str, torch.nn.Module], optimizer: torch.optim.Optimizer
    ) -> None:
        self.folder, self.part, self.budget = folder, part, budget
        self.modules, self.optimizer = modules, optimizer
        self.step, self.elapsed = 0, 0.0
        self._path = folder / f"{part}-checkpoint.pt"
        self._log = folder / f"{part}-log.jsonl"
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._losses: list[float] = []
        if self._path.exists():
            # The file is our own, and weights_only keeps it from running code.
            state = torch.load(self._path, map_location="cpu", weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(state["modules"][name])
            optimizer.load_state_dict(state["optimizer"])
            self.step, self.elapsed = state["step"], state["elapsed"]

    @property
    def share(self) -> float:
        """Fraction of the budget that is used, 0 to 1."""
        return min(1.0, self.elapsed / self.budget) if self.budget > 0 else 1.0

    def steps(self, warmup: int = 100, floor: float = 0.01) -> Iterator[int]:
        """Yield step numbers until the budget is used; sets warm-up and cosine learning rates, and saves checkpoints."""
        saved = self.elapsed
        with progress(f"pocket {self.part}, seconds", int(self.budget), every_seconds=60) as advance:
            advance(shown := int(self.elapsed))
            while self.share < 1:
                began = time.monotonic()
                factor = min(1.0, (self.step + 1) / warmup) * (floor + (1 - floor) * (0.5 + 0.5 * math.cos(math.pi * self.share)))
                for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                    group["lr"] = rate * factor
                yield self.step
                self.step += 1
                self.elapsed += time.monotonic() - began
                advance(int(self.elapsed) - shown, self._note())
                shown = int(self.elapsed)
                if self.elapsed - saved > SAVE_EVERY:
                    self.save()
                    saved = self.elapsed
        self.save()

    def learn(self, loss: torch.Tensor, clip: Iterable[torch.nn.Parameter] = (), **values: float) -> None:
        """Take one optimizer step on ``loss``, with the gradients of ``clip`` clipped to a norm of 1; then :meth:`report`."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clipped := list(clip):
            torch.nn.utils.clip_grad_norm_(clipped, 1.0)
        self.optimizer.step()
        self.report(loss, **values)

    def report(self, loss: torch.Tensor, **values: float) -> None:
        """Record a step's loss, and log a row every LOG_EVERY steps; TrainingDiverged if the mean loss is not finite."""
        self._losses.append(float(loss.detach()))
        if (self.step + 1) % LOG_EVERY == 0:
            mean = sum(self._losses[-LOG_EVERY:]) / len(self._losses[-LOG_EVERY:])
            if not math.isfinite(mean):
                raise TrainingDiverged(
                    f"pocket {self.part}", f"the loss is {mean} at step {self.step}", remedy=f"the last checkpoint is {self._path}"
                )
            row: dict[str, Any] = {"step": self.step + 1, "seconds": round(self.elapsed, 1), "loss": mean, **values}
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """Write the checkpoint atomically."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        with storage_errors(self._path), atomic_file(self._path) as temporary:
            torch.save(state, temporary)

    def _note(self) -> str:
        recent = self._losses[-LOG_EVERY:] or [float("nan")]
        return f"step {self.step}, loss {sum(recent) / len(recent):.4f}"


@contextmanager
def initialising(part: str) -> Iterator[None]:
    """Fix a part's initial weights, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "pocket-init", part) % 2**32)
        yield


def device_of(name: str | None = None) -> torch.device:
    """The named device, else the default one, which is CUDA or the CPU; raises as :func:`default_device`."""
    return torch.device(name) if name else default_device("cuda")


def compiled(function: Callable[..., torch.Tensor], where: torch.device, budget: float) -> Callable[..., torch.Tensor]:
    """Compile ``function`` if that is possible and a training of ``budget`` seconds is worth the minute or two; else return it as it is."""
    return torch.compile(function) if can_compile(where) and budget > COMPILING else function


@contextmanager
def mixed_precision(where: torch.device) -> Iterator[None]:
    """Use bf16 where the hardware has units for its matrix products: CUDA, and CPUs with AMX."""
    half = where.type == "cuda" or (where.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16")))
    with half_attention(where) if half else nullcontext(), torch.autocast(where.type, torch.bfloat16, enabled=half):
        yield
