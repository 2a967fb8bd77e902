"""Candidates in a model's folder: each is a delta that can be drawn with, and the chosen one becomes the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from components.core.model_card import CANDIDATES, CARD
from components.core.paths import atomic_folder, link_or_copy, read_json, write_json
from components.diffusion.export.formats import write_formats
from components.diffusion.models.bundle import load_weights
from components.diffusion.models.deltas import DELTA_FILE
from components.diffusion.training.previews import FOLDER as PREVIEWS
from components.diffusion.training.recipe import Recipe


def write_candidates(folder: Path, files: Mapping[int, Path], card: Mapping[str, Any]) -> None:
    """Put candidates into a model's folder, by step, each with the model's ``card``."""
    for step, file in files.items():
        place = folder / CANDIDATES / f"step-{step:08d}"
        link_or_copy(file, place / DELTA_FILE)
        write_json(place / CARD, {**card, "save": "delta", "files": [], "step": step})


def read_candidates(model: Path) -> dict[int, Path]:
    """Folders to draw with from one training, by step and in its order; the last is the model's own."""
    found = {int(place.name.removeprefix("step-")): place for place in (model / CANDIDATES).glob("step-*")}
    training = read_json(model / CARD)["training"]
    return {**dict(sorted(found.items())), int(training.get("ended_at", training["steps"])): model}


def take_candidate(model: Path, step: int, out: Path, selection: Mapping[str, Any]) -> Path:
    """Write the model into ``out`` as if its training had ended at ``step``, without the other candidates; return ``out``.

    The model is saved as its method saves, whole or as a delta, with the files for other programs. The training's log stays as it
    is; ``selection`` goes into the card.
    """
    source = read_candidates(model)[step]
    with atomic_folder(out) as folder:
        card = read_json(model / CARD)
        for file in sorted(item.relative_to(model) for item in model.rglob("*") if item.is_file()):
            stays = file.parts[0] != CANDIDATES if source == model else _is_of_the_way(file, step)
            if stays and file.as_posix() != CARD:
                link_or_copy(model / file, folder / file)
        if source != model:
            bundle = load_weights(source)
            if card["save"] == "delta":
                link_or_copy(source / DELTA_FILE, folder / DELTA_FILE)
            else:
                bundle.save(folder)
            recipe = Recipe.from_json(card["recipe"])
            card["files"] = write_formats(folder, load_file(source / DELTA_FILE), recipe, bundle.family.layout)
        write_json(folder / CARD, {**card, "selection": dict(selection)})
    return Path(out)


def _is_of_the_way(file: Path, step: int) -> bool:
    """Whether a file belongs to the training up to ``step``, and not to the model that it ended with: the log, the timing, previews."""
    if file.parent == Path("training", PREVIEWS):
        return int(file.stem.removeprefix("step-")) <= step
    return file.parent == Path("training") and file.name in ("log.jsonl", "timing.json")
