"""A base or fine-tuned model with everything that belongs to it, loaded from wherever it is stored; safetensors only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from components.core.config import BaseSection, validate_model
from components.core.devices import default_device
from components.core.errors import InputError
from components.core.model_card import CARD, read_card
from components.diffusion.models.deltas import StylePicture, apply_delta, check_base, is_delta, other_base, read_delta
from components.diffusion.models.families import Family
from components.diffusion.models.loading import load_file, load_folder, quiet
from components.diffusion.models.precision import Precisions, compute_dtype, kind_of, settle
from components.diffusion.models.sources import content_digest, locate

CPU, AS_FILES = torch.device("cpu"), Precisions()


@dataclass(frozen=True)
class Origin:
    """The base that a model was tuned from, and the digest of its files (None: it is in use, so it need not be checked)."""

    model: str
    revision: str | None
    digest: str | None = None


@dataclass
class Bundle:
    """A text-to-image model: its family, its configured ``model`` and ``revision``, and the local folder or file it came from.

    ``tuned_from`` is the base that was fine-tuned; None for a model that is a base itself. ``aligned_to`` is the style picture that
    drawings are aligned to, if any.
    """

    family: Family
    model: str
    revision: str | None
    path: Path
    tuned_from: Origin | None = None
    aligned_to: StylePicture | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 of the files of its parts (or of its delta); logs and other files beside them do not count."""
        return read_delta(self.path).digest if is_delta(self.path) else content_digest(self.path)

    @cached_property
    def frozen(self) -> Bundle:
        """The base with its own weights, in the model's precisions and on its device; the bundle itself if nothing was tuned.

        A separate copy: adapters are folded into the weights and cannot be removed bit for bit. Raises InputError if the base is
        missing or has changed.
        """
        origin, family = self.tuned_from, self.family
        if origin is None:
            return self
        try:
            base = load_weights(origin.model, origin.revision, family.precisions, family.device)
        except InputError as error:
            raise InputError(
                str(self.path), f"cannot draw without its base {origin.model}, which is missing ({error.where}: {error.problem})",
                expected="the base that it was trained on", remedy="put it back, or guide without branches of the base's weights",
            ) from error  # fmt: skip
        if origin.digest is not None and base.digest != origin.digest:
            raise other_base(self.path, origin.model, origin.digest, base.digest)
        base.family.lower(family.precisions, family.device, family.offload).to(family.device)
        return base

    def save(self, folder: Path) -> Path:
        """Write the diffusers layout into ``folder`` and return it."""
        with quiet():
            self.family.save(Path(folder))
        return Path(folder)


def load_bundle(
    model: str | Path, revision: str | None = None, device: str | torch.device | None = None, base: str | Path | None = None,
    memory: BaseSection | None = None,
) -> Bundle:  # fmt: skip
    """Load a model in evaluation mode, to draw with or to save.

    Args:
        model: ``pocket``, a diffusers folder, a folder with a delta (loaded onto its base), a ``.safetensors`` file, or a hub
            id (``owner/name``), whose ``revision`` is a full commit hash.
        device: default: the accelerator, else the CPU.
        base: where the base of a style model is; default: where it was in training.
        memory: the ``precision`` and ``offload`` to use; default: those that a style model was trained with, else the configuration's.

    Raises:
        InputError: nothing is there, a part is missing, weights are pickled, the architecture is not supported, or a delta's
            base is a delta.
        ConfigError: this machine does not support a precision.
        ServiceUnreachable: the hub does not answer.
    """
    place = torch.device(device) if device else default_device()
    memory = memory or _recorded(Path(str(model)).expanduser())
    precisions = settle(memory.precision, place)
    bundle = load_weights(model, revision, precisions, place, base=base)
    bundle.family.lower(precisions, place, memory.offload).to(place)
    return bundle


def load_weights(
    model: str | Path, revision: str | None = None, precisions: Precisions = AS_FILES, device: torch.device = CPU, *,
    base: str | Path | None = None, whole: Collection[str] = (),
) -> Bundle:  # fmt: skip
    """Load a model as :func:`load_bundle` does, but on the CPU and not yet lowered to ``precisions``.

    Each part is in the dtype that it will compute in on ``device``; parts of the ``whole`` kinds, and those that a delta changes,
    are in fp32.
    """
    where = str(model)
    folder = Path(where).expanduser()
    if is_delta(folder):
        return _load_delta(folder, where, precisions, device, base)
    path = locate(where, revision)

    def types(part: str) -> torch.dtype:
        return torch.float32 if kind_of(part) in whole else compute_dtype(precisions.of(part), device)

    with quiet():
        family = load_file(path, types) if path.is_file() else load_folder(path, types)
    for part in family.parts.values():
        part.requires_grad_(False).eval()
    return Bundle(family, where, revision, path, _origin(path, base))


def _origin(path: Path, base: str | Path | None) -> Origin | None:
    """The base that a whole style model's card names, at the path ``base`` if one is given."""
    recorded = read_card(path).get("base") if path.is_dir() else None
    return Origin(str(base or recorded["model"]), recorded["revision"], recorded["digest"]) if recorded else None


def _load_delta(folder: Path, where: str, precisions: Precisions, device: torch.device, base: str | Path | None) -> Bundle:
    """A delta's base with the delta folded in; the parts that it changes are in fp32."""
    delta = read_delta(folder)
    if is_delta(Path(base or delta.model).expanduser()):
        raise InputError(
            str(folder), f"its base {base or delta.model} is itself a delta", expected="a whole model as the base",
            remedy="export that delta as a whole model (`styleforge export --format diffusers`) and train on it",
        )  # fmt: skip
    bundle = load_weights(base or delta.model, delta.revision, precisions, device, whole=delta.recipe.kinds())
    check_base(delta, bundle.digest)
    apply_delta(bundle.family, delta)
    return Bundle(bundle.family, where, None, folder, Origin(bundle.model, delta.revision, delta.base_digest), delta.aligned_to)


def _recorded(folder: Path) -> BaseSection:
    """The precision and offloading that a style model was trained with, from its card; the defaults for any other model."""
    if not (folder / CARD).is_file():
        return BaseSection()
    held = read_card(folder).get("base", {}).get("memory", {})
    return validate_model(BaseSection, held, f"{folder / CARD}: base.memory")
