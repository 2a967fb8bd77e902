"""The card of a style model, ``styleforge.json``: what the model is, and how to prompt it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.config import AS_SCORED, SamplingSection, validate_model
from components.core.errors import InputError
from components.core.paths import read_json

CARD = "styleforge.json"
CANDIDATES = "candidates"
"""Folder of the models to choose from, in a model's folder: earlier checkpoints, and trainings with other seeds."""


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a model folder; InputError if it is not a JSON object.

    A base has no card: the one returned for it has no token and leaves prompts as they are.
    """
    file = Path(folder) / CARD
    if not file.is_file():
        return {"identifier": "", "sampling": {"style_template": "{token}{prompt}"}}
    try:
        return dict(read_json(file))
    except (ValueError, TypeError) as error:
        raise InputError(str(file), f"is not a model card ({error})", expected="the file as StyleForge wrote it") from error


def seed_folder(model: Path, seed: int) -> Path:
    """Where a model's folder has the model of the same training with another seed."""
    return model / CANDIDATES / f"seed-{seed}"


def models_by_seed(model: Path) -> dict[int, Path]:
    """The folders of all trainings to choose from, by seed, the model's own first."""
    others = {int(place.name.removeprefix("seed-")): place for place in (model / CANDIDATES).glob("seed-*")}
    return {int(read_card(model)["seed"]): model, **dict(sorted(others.items()))}


# Stable Diffusion cards written before model families had their own settings leave these out.
_BEFORE_FAMILIES = {"scheduler": "dpm++", "steps": 30, "guidance": 7.5}


def as_scored(settings: SamplingSection) -> dict[str, Any]:
    """The ``sampling`` of a card, as a JSON value: the settings that the model was scored with; a guidance formula only if it has one."""
    found = settings.model_dump(mode="json", include=set(AS_SCORED))
    return found if settings.guidance_formula else {key: value for key, value in found.items() if key != "guidance_formula"}


def as_chosen(folder: Path, settings: SamplingSection) -> SamplingSection:
    """The settings with the guidance scales that were chosen for the model in ``folder``, if any."""
    chosen = read_card(folder).get("selection") or {}
    return settings.guided_by(chosen.get("guidance"), chosen.get("style_guidance"))


def sampling_settings(card: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> SamplingSection:
    """The settings to draw with: those the model was scored with, but for ``changes`` that are not None; ConfigError for a bad setting."""
    kept = _BEFORE_FAMILIES | {key: value for key, value in card.get("sampling", {}).items() if key in AS_SCORED}
    chosen = {key: value for key, value in (changes or {}).items() if value is not None}
    return validate_model(SamplingSection, kept | chosen, "sampling").settled()
