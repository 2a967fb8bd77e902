"""Deltas, which hold only what a method changed and name the base that they belong to: read them and apply them to the base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from components.core.content import digest_value
from components.core.errors import InputError
from components.core.fingerprint import fingerprint
from components.core.paths import read_json
from components.diffusion.models.families import Family
from components.diffusion.models.interpolation import interpolate, weights_of
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.trainables import Trainables

DELTA_FILE = "delta.safetensors"
REFERENCE_FILE = "reference.png"
CARD = "styleforge.json"


@dataclass(frozen=True)
class StylePicture:
    """A picture of the style that a model's drawings are aligned to, and the prompt that would draw it."""

    path: Path
    prompt: str


@dataclass(frozen=True)
class Delta:
    """A delta folder's record: what was trained, the base's name, revision and digest, and the picture to align drawings to, if any."""

    folder: Path
    recipe: Recipe
    model: str
    revision: str | None
    base_digest: str
    aligned_to: StylePicture | None = None

    @property
    def digest(self) -> str:
        """sha256 of the base's digest, the recipe and the tensors; and, if there is one, of the style picture and its prompt."""
        picture = [fingerprint(self.aligned_to.path), self.aligned_to.prompt] if self.aligned_to else []
        return digest_value([self.base_digest, self.recipe.as_json(), fingerprint(self.folder / DELTA_FILE), *picture])


def is_delta(folder: Path) -> bool:
    """Whether a folder holds a delta rather than a whole model."""
    return (folder / DELTA_FILE).is_file()


def read_delta(folder: Path) -> Delta:
    """Read a delta folder's record without opening the tensors; raises InputError if it is missing or incomplete."""
    file = folder / CARD
    if not file.is_file():
        raise InputError(str(folder), f"a delta without {CARD}", expected="the folder as it was written; that file names the base")
    try:
        card: dict[str, Any] = read_json(file)
        base, prompt = card["base"], card.get("reference_prompt")
        picture = None if prompt is None else StylePicture(folder / REFERENCE_FILE, str(prompt))
        if picture and not picture.path.is_file():
            raise InputError(str(picture.path), "is missing", expected="the image that the model is drawn in line with")
        return Delta(folder, Recipe.from_json(card["recipe"]), str(base["model"]), base["revision"], str(base["digest"]), picture)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(str(file), f"is not a record of a delta ({type(error).__name__}: {error})", expected="base and recipe") from error


def apply_delta(family: Family, delta: Delta) -> None:
    """Fold a delta into its base's family, in place; no adapters are left in the family.

    Raises InputError if the tensors are damaged or do not belong to this base.
    """
    file = delta.folder / DELTA_FILE
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise InputError(str(file), f"damaged ({str(error).splitlines()[0]})", expected="an intact safetensors file") from error
    strength = delta.recipe.strength
    base = {} if strength == 1.0 else {name: value.clone() for name, value in weights_of(family).items()}
    trained = Trainables(family, delta.recipe, seed=None)
    trained.load(tensors, str(file))
    trained.fold()
    if base:
        interpolate(family, base, strength)


def check_base(delta: Delta, digest: str) -> None:
    """Refuse (InputError) a base whose weights are not those that the delta was trained on."""
    if digest != delta.base_digest:
        raise other_base(delta.folder, delta.model, delta.base_digest, digest)


def other_base(folder: Path, model: str, recorded: str, found: str) -> InputError:
    """The error for a base whose weights are not those that a model was trained on."""
    return InputError(
        str(folder), f"was trained on the base {model} with digest {recorded[:16]}, which now has {found[:16]}",
        expected="the base that it was trained on", remedy="restore the old base's files, or train again",
    )  # fmt: skip
