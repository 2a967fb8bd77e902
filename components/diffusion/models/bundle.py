"""A base or fine-tuned model with everything that belongs to it, loaded from wherever it lives; safetensors only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from components.core.devices import default_device
from components.core.errors import InputError
from components.diffusion.models.deltas import apply_delta, check_base, is_delta, read_delta
from components.diffusion.models.families import Family
from components.diffusion.models.loading import load_file, load_folder, quiet
from components.diffusion.models.sources import content_digest, locate


@dataclass
class Bundle:
    """A text-to-image model: its family, its configured ``model`` and ``revision``, and the local folder or file it came from."""

    family: Family
    model: str
    revision: str | None
    path: Path

    @cached_property
    def digest(self) -> str:
        """sha256 over the files of its parts (or delta), as they were loaded; logs and other files beside them do not count."""
        return read_delta(self.path).digest if is_delta(self.path) else content_digest(self.path)

    def save(self, folder: Path) -> Path:
        """Write the diffusers layout into ``folder`` and return it."""
        with quiet():
            self.family.save(Path(folder))
        return Path(folder)


def load_bundle(
    model: str | Path, revision: str | None = None, device: str | torch.device | None = None, base: str | Path | None = None
) -> Bundle:
    """Load a model in fp32, in evaluation mode.

    Args:
        model: ``pocket``, a diffusers folder, a folder with a delta (loaded onto its base), a ``.safetensors`` file, or a hub
            id (``owner/name``), whose ``revision`` is a full commit hash.
        device: default: the accelerator, else the CPU.
        base: where the base of a delta is; default: where it was in training.

    Raises:
        InputError: nothing is there, a part is missing, weights are pickled, the architecture is another one, or a delta's
            base is a delta.
        ServiceUnreachable: the hub does not answer.
    """
    where = str(model)
    folder = Path(where).expanduser()
    if is_delta(folder):
        return _load_delta(folder, where, device, base)
    path = locate(where, revision)
    with quiet():
        family = load_file(path) if path.is_file() else load_folder(path)
    place = torch.device(device) if device else default_device()
    for part in family.parts.values():
        part.requires_grad_(False).eval()
    return Bundle(family.to(place), where, revision, path)


def _load_delta(folder: Path, where: str, device: str | torch.device | None, base: str | Path | None) -> Bundle:
    """A delta's base with the delta folded in."""
    delta = read_delta(folder)
    if is_delta(Path(base or delta.model).expanduser()):
        raise InputError(
            str(folder), f"its base {base or delta.model} is itself a delta", expected="a whole model as the base",
            remedy="export that delta as a whole model (`styleforge export --format diffusers`) and train on it",
        )  # fmt: skip
    whole = load_bundle(base or delta.model, delta.revision, "cpu")
    check_base(delta, whole.digest)
    apply_delta(whole.family, delta)
    return Bundle(whole.family.to(torch.device(device) if device else default_device()), where, None, folder)
