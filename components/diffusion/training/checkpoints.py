"""Checkpoints: written atomically, tensors in safetensors and the rest in JSON; the newest K are kept."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from components.core.paths import atomic_folder, read_json

_logger = logging.getLogger(__name__)
_NAME = re.compile(r"step-(\d{8})")
_LEFTOVER = re.compile(r"\.step-\d{8}\..*\.(tmp|old)")
_SEPARATOR = "|"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: named groups of tensors (weights, optimizer, ...), and the JSON state."""

    path: Path
    step: int
    tensors: dict[str, dict[str, torch.Tensor]]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in one folder, of which the newest ``keep`` are kept.

    ``fingerprint`` is a digest of everything that the training depends on; checkpoints of another one are passed over.
    """

    def __init__(self, folder: Path, keep: int, fingerprint: str) -> None:
        self.folder, self._keep, self._fingerprint = Path(folder), keep, fingerprint

    def write(self, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove all but the newest ``keep``.

        StorageError if the disk refuses: earlier checkpoints are then untouched, and nothing half-written is left.
        """
        path = self.folder / f"step-{step:08d}"
        with atomic_folder(path) as temporary:
            sizes = {}
            for name, group in tensors.items():
                save_tensors(temporary / f"{name}.safetensors", group)
                sizes[name] = (temporary / f"{name}.safetensors").stat().st_size
            record = {"step": step, "fingerprint": self._fingerprint, "sizes": sizes, "state": state}
            # A loss can be NaN only in a run that is being stopped, which writes no more checkpoints.
            with open(temporary / STATE, "w", encoding="utf-8") as file:
                json.dump(record, file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
        for old in self._all()[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def newest(self, device: torch.device | str = "cpu", before: int | None = None) -> Checkpoint | None:
        """The newest whole checkpoint of this run, from a step earlier than ``before`` if that is given; or None."""
        self._remove_leftovers()
        for path in reversed(self._all()):
            if before is not None and int(path.name.removeprefix("step-")) >= before:
                continue
            try:
                found = self._read(path, device)
            except Exception as error:
                # Whatever a crash of the machine did to this checkpoint, the one before it serves.
                _logger.warning(
                    "checkpoint %s is damaged and will be skipped (%s)",
                    path,
                    str(error).splitlines()[0] if str(error) else type(error).__name__,
                )
                continue
            if found is not None:
                return found
        return None

    @property
    def last(self) -> Path | None:
        """Folder of the newest checkpoint, or None; whether it is whole is not checked."""
        found = self._all()
        return found[-1] if found else None

    def _read(self, path: Path, device: torch.device | str) -> Checkpoint | None:
        record = read_json(path / STATE)
        if record["fingerprint"] != self._fingerprint:
            _logger.warning("checkpoint %s belongs to another run and will be skipped", path)
            return None
        tensors = {}
        for name, size in record["sizes"].items():
            file = path / f"{name}.safetensors"
            if file.stat().st_size != size:
                raise ValueError(f"{file.name} has {file.stat().st_size} bytes, {size} were written")
            tensors[name] = load_file(file, device=str(device))
        return Checkpoint(path, int(record["step"]), tensors, record["state"])

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())

    def _remove_leftovers(self) -> None:
        """Remove what a killed process was writing."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if _LEFTOVER.fullmatch(path.name):
                    shutil.rmtree(path, ignore_errors=True)


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as safetensors and flush them to disk.

    OSError if the disk refuses: safetensors raises a class of its own for that, which callers do not catch.
    """
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found.group(1)) if found else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's ``state_dict()`` as flat tensors (``state|index|name``, ``group|index|name``) and plain JSON values."""
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    memory = set()
    for path, value in _leaves({"state": state["state"], "group": dict(enumerate(state["param_groups"]))}):
        if not torch.is_tensor(value):
            values[path] = value
            continue
        # bitsandbytes shares tables between parameters, and safetensors refuses tensors that share memory.
        tensors[path] = value.clone() if value.data_ptr() in memory else value
        memory.add(value.data_ptr())
    return tensors, {"values": values}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}{_SEPARATOR}{key}" if path else str(key))
    else:
        yield path, value


def unflatten_optimizer(tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`flatten_optimizer`."""
    found: dict[str, Any] = {"state": {}, "group": {}}
    for path, value in [*tensors.items(), *plain["values"].items()]:
        *folders, name = path.split(_SEPARATOR)
        at = found
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = value
    state = {int(index): entries for index, entries in found["state"].items()}
    return {"state": state, "param_groups": [found["group"][str(index)] for index in range(len(found["group"]))]}
