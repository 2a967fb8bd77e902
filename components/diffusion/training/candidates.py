"""Candidates: weights at evenly spaced steps of a training, one of which is chosen afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from components.core.model_card import CANDIDATES
from components.core.paths import atomic_file, read_json, write_json
from components.diffusion.training.checkpoints import save_tensors


def candidate_steps(steps: int, count: int) -> list[int]:
    """At most ``count`` evenly spaced steps of a training, in order, including the last."""
    return sorted({max(1, round(steps * number / count)) for number in range(1, count + 1)})


class Candidates:
    """The candidates of one training, one file each in ``candidates`` inside the folder of its checkpoints, without the final weights.

    ``fingerprint`` is that of the checkpoints: files of another training are passed over. If they are ``watched``, each has a
    record beside it.
    """

    def __init__(self, checkpoints: Path, steps: int, count: int, fingerprint: str, *, watched: bool = False) -> None:
        self.folder, self._fingerprint, self._watched = Path(checkpoints) / CANDIDATES, fingerprint, watched
        self.steps = candidate_steps(steps, count)[:-1]

    def write(self, step: int, tensors: Mapping[str, torch.Tensor]) -> Path:
        """Write the trained tensors as they would be if the training ended at ``step``, in fp32. Returns the file."""
        path = self._path(step)
        with atomic_file(path) as temporary:
            save_tensors(temporary, {name: value.detach().float() for name, value in tensors.items()})
        return path

    def write_record(self, step: int, record: Mapping[str, Any]) -> Path:
        """Write the record of the candidate of ``step``. Returns the file."""
        file = self._path(step).with_suffix(".json")
        write_json(file, dict(record))
        return file

    def records(self, step: int) -> list[dict[str, Any]]:
        """The records of the candidates up to and including that of ``step``."""
        return [read_json(self._path(each).with_suffix(".json")) for each in self.steps if each <= step]

    def missing(self, step: int) -> list[int]:
        """Steps up to and including ``step`` whose candidate or, if watched, record is missing or damaged."""
        return [each for each in self.steps if each <= step and not self._is_whole(self._path(each))]

    def files(self, ended: int) -> dict[int, Path]:
        """The candidate file of each step, for a training that ended at step ``ended``."""
        return {step: self._path(step) for step in self.steps if step < ended}

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}-{self._fingerprint[:16]}.safetensors"

    def _is_whole(self, file: Path) -> bool:
        """Whether the file's header is sound and matches its length, which safetensors checks on opening; the record, too."""
        try:
            if self._watched:
                read_json(file.with_suffix(".json"))
            with safe_open(file, "pt"):
                return True
        except Exception:
            return False
