"""The card of a style model, ``styleforge.json``: what the model is, and how to prompt it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.config import AS_SCORED, SamplingSection, validate_model
from components.core.errors import InputError
from components.core.paths import read_json

CARD = "styleforge.json"


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a model folder; InputError for no JSON object. A base has none, and is drawn with as it is: no token, no template."""
    file = Path(folder) / CARD
    if not file.is_file():
        return {"identifier": "", "sampling": {"style_template": "{token}{prompt}"}}
    try:
        return dict(read_json(file))
    except (ValueError, TypeError) as error:
        raise InputError(str(file), f"is no card of a model ({error})", expected="the file as StyleForge wrote it") from error


# Cards of Stable Diffusion models that were written before families had settings of their own leave these out.
_BEFORE_FAMILIES = {"scheduler": "dpm++", "steps": 30, "guidance": 7.5}


def as_scored(settings: SamplingSection) -> dict[str, Any]:
    """The ``sampling`` of a card: what a model is drawn with as it was scored, as a JSON value; a formula where it has one."""
    found = settings.model_dump(mode="json", include=set(AS_SCORED))
    return found if settings.guidance_formula else {key: value for key, value in found.items() if key != "guidance_formula"}


def as_chosen(folder: Path, settings: SamplingSection) -> SamplingSection:
    """The settings with the scales of guidance that were chosen for the model in ``folder``, if any were."""
    chosen = read_card(folder).get("selection") or {}
    return settings.guided_by(chosen.get("guidance"), chosen.get("style_guidance"))


def sampling_settings(card: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> SamplingSection:
    """How pictures are drawn with a model: as it was scored, but for ``changes`` that are not None; ConfigError for a bad setting."""
    kept = _BEFORE_FAMILIES | {key: value for key, value in card.get("sampling", {}).items() if key in AS_SCORED}
    chosen = {key: value for key, value in (changes or {}).items() if value is not None}
    return validate_model(SamplingSection, kept | chosen, "sampling").settled()
