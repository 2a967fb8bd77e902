"""The record of one cell of a comparison: its scores, its cost, per-picture values, and a few pictures for the picture wall."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.paths import atomic_folder, read_json, write_json
from components.evaluation.pictures import Picture, in_turn, pick_pairs, read_pictures
from components.evaluation.protocol import SCORES, read_protocol
from components.evaluation.replicates import VALUES, replicates
from components.evaluation.significance import Resampled

SCHEMA = 1
WALL = 12
"""Number of prompts whose pictures a cell keeps for the wall."""
_COST = "timing.json"
"""Digests leave out files of this name, since the cost of a training differs from run to run."""


@dataclass(frozen=True)
class WallPicture:
    """A cell's picture of one prompt, and the base's picture of it."""

    prompt: str
    category: str
    style: Path
    base: Path | None


@dataclass(frozen=True)
class Record:
    """A cell's record: ``scores`` from the score step, ``cost`` in seconds and bytes, and the pictures for the wall."""

    folder: Path
    scores: dict[str, Any]
    cost: dict[str, Any]
    wall: list[WallPicture]


def write_record(out: Path, *, evaluation: Path, model: Path, style_pictures: Path, base_pictures: Path) -> Path:
    """Write one cell's record: ``cell.json``, ``values.safetensors``, ``wall/``, and ``timing.json`` with the cost of its training."""
    scores = read_json(evaluation / SCORES)
    shown = in_turn(pick_pairs(read_pictures(style_pictures), read_pictures(base_pictures), WALL), WALL)
    with atomic_folder(out) as folder:
        shutil.copyfile(evaluation / VALUES, folder / VALUES)
        write_json(folder / "cell.json", {
            "schema": SCHEMA, "scores": {key: scores[key] for key in ("style", "base", "drift", "context")},
            "prompts": read_protocol(evaluation)["pictures"], "saved_bytes": saved_bytes(model), "wall": _copy_wall(shown, folder),
        })  # fmt: skip
        write_json(folder / _COST, _cost(model))
    return out


def saved_bytes(model: Path) -> int:
    """Size in bytes of what a method must keep: the model's files without the training's log, pictures and timings."""
    files = (item for item in model.rglob("*") if item.is_file() and "training" not in item.relative_to(model).parts)
    return sum(item.stat().st_size for item in files)


def read_record(folder: Path) -> Record:
    """Read a record that :func:`write_record` wrote; arrays are read by :func:`resample`."""
    cell = read_json(folder / "cell.json")
    cost = {**read_json(folder / _COST), "saved_bytes": cell["saved_bytes"]}
    wall = [
        WallPicture(row["prompt"], row["category"], folder / row["style"], folder / row["base"] if row["base"] else None)
        for row in cell["wall"]
    ]
    return Record(folder, cell["scores"], cost, wall)


def resample(record: Record, resamples: int, seed: int) -> dict[str, Resampled]:
    """A cell's KID and scores that are means over pictures, each with (B,) replicates.

    With the same seed all cells resample the same prompts, so that differences are paired.
    """
    prompts = read_json(record.folder / "cell.json")["prompts"]
    found = replicates(record.folder, prompts, resamples, seed)
    return {name: Resampled(float(record.scores["style"][name]["value"]), values) for name, values in found.items()}


def _copy_wall(shown: list[tuple[Picture, Picture | None]], folder: Path) -> list[dict[str, Any]]:
    (folder / "wall").mkdir()
    rows = []
    for index, (ours, theirs) in enumerate(shown):
        row: dict[str, Any] = {"prompt": ours.prompt, "category": ours.category, "style": f"wall/{index:02d}-style.png", "base": None}
        shutil.copyfile(ours.path, folder / row["style"])
        if theirs is not None:
            row["base"] = f"wall/{index:02d}-base.png"
            shutil.copyfile(theirs.path, folder / row["base"])
        rows.append(row)
    return rows


def _cost(model: Path) -> dict[str, Any]:
    """Seconds and peak memory of a training, and seconds of the selection after it.

    The time of a resumed training is extrapolated to all of its steps.
    """
    timing, card = model / "training" / "timing.json", model / "styleforge.json"
    found = read_json(timing) if timing.is_file() else {}
    selection = model / "training" / "selection" / "timing.json"
    training = (read_json(card).get("training") or {}) if card.is_file() else {}
    steps = training.get("ended_at", training.get("steps"))
    seconds, resumed = found.get("seconds"), found.get("resumed_from") or 0
    if seconds is not None and steps and 0 < resumed < steps:
        seconds = seconds * steps / (steps - resumed)
    return {
        "seconds": seconds, "resumed": bool(resumed), "peak_memory_bytes": found.get("peak_memory_bytes"),
        "device": found.get("device"), "steps": steps,
        **({"selection_seconds": read_json(selection)["seconds"]} if selection.is_file() else {}),
    }  # fmt: skip
