"""Candidates: the weights that a training passes through, evenly spaced, from which one is chosen afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from components.core.paths import atomic_file, read_json, write_json
from components.diffusion.training.checkpoints import save_tensors

FOLDER = "candidates"


def candidate_steps(steps: int, count: int) -> list[int]:
    """At most ``count`` of a training's steps, evenly spaced, in order, the last among them."""
    return sorted({max(1, round(steps * number / count)) for number in range(1, count + 1)})


class Candidates:
    """The candidates of one training, a file each below the folder of its checkpoints; the weights at the end are none of them.

    ``fingerprint`` is that of the checkpoints: files of another training are passed over. Where they are ``watched`` each has a
    record beside it.
    """

    def __init__(self, checkpoints: Path, steps: int, count: int, fingerprint: str, *, watched: bool = False) -> None:
        self.folder, self._fingerprint, self._watched = Path(checkpoints) / FOLDER, fingerprint, watched
        self.steps = candidate_steps(steps, count)[:-1]

    def write(self, step: int, tensors: Mapping[str, torch.Tensor]) -> Path:
        """Write what is trained as it would be if the training ended at ``step``, in fp32. Returns the file."""
        path = self._path(step)
        with atomic_file(path) as temporary:
            save_tensors(temporary, {name: value.detach().float() for name, value in tensors.items()})
        return path

    def write_record(self, step: int, record: Mapping[str, Any]) -> Path:
        """Write what was found about the candidate of ``step``. Returns the file."""
        file = self._path(step).with_suffix(".json")
        write_json(file, dict(record))
        return file

    def records(self, step: int) -> list[dict[str, Any]]:
        """What was found about the candidates up to and with that of ``step``."""
        return [read_json(self._path(each).with_suffix(".json")) for each in self.steps if each <= step]

    def missing(self, step: int) -> list[int]:
        """Steps up to and with ``step`` whose candidate, or its record, is not there, or damaged."""
        return [each for each in self.steps if each <= step and not self._is_whole(self._path(each))]

    def files(self, ended: int) -> dict[int, Path]:
        """The file of each step, for a training that ended at step ``ended``."""
        return {step: self._path(step) for step in self.steps if step < ended}

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}-{self._fingerprint[:16]}.safetensors"

    def _is_whole(self, file: Path) -> bool:
        """Whether the header is sound and covers the file to its end, which safetensors checks when it opens it; the record, too."""
        try:
            if self._watched:
                read_json(file.with_suffix(".json"))
            with safe_open(file, "pt"):
                return True
        except Exception:
            return False
