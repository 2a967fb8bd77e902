"""Candidates: the weights that a training passes through, evenly spaced, from which one is chosen afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from components.core.paths import atomic_file
from components.diffusion.training.checkpoints import save_tensors

FOLDER = "candidates"


def candidate_steps(steps: int, count: int) -> list[int]:
    """At most ``count`` of a training's steps, evenly spaced, in order, the last among them."""
    return sorted({max(1, round(steps * number / count)) for number in range(1, count + 1)})


class Candidates:
    """The candidates of one training, a file each below the folder of its checkpoints; the weights at the end are none of them.

    ``fingerprint`` is that of the checkpoints: files of another training are passed over.
    """

    def __init__(self, checkpoints: Path, steps: int, count: int, fingerprint: str) -> None:
        self.folder, self._fingerprint = Path(checkpoints) / FOLDER, fingerprint
        self.steps = candidate_steps(steps, count)[:-1]

    def write(self, step: int, tensors: Mapping[str, torch.Tensor]) -> Path:
        """Write what is trained as it would be if the training ended at ``step``, in fp32. Returns the file."""
        path = self._path(step)
        with atomic_file(path) as temporary:
            save_tensors(temporary, {name: value.detach().float() for name, value in tensors.items()})
        return path

    def missing(self, step: int) -> list[int]:
        """Steps up to and with ``step`` whose candidate is not there, or damaged."""
        return [each for each in self.steps if each <= step and not _is_whole(self._path(each))]

    def files(self) -> dict[int, Path]:
        """The file of each step."""
        return {step: self._path(step) for step in self.steps}

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}-{self._fingerprint[:16]}.safetensors"


def _is_whole(file: Path) -> bool:
    """Whether the header is sound and covers the file to its end, which safetensors checks when it opens it."""
    try:
        with safe_open(file, "pt"):
            return True
    except Exception:
        return False
