"""The search through checkpoints and guidance scales, and what is kept of it: figures of each, and a strip of the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow

from components.core.images import load_rgb
from components.core.paths import atomic_folder, write_json
from components.evaluation.pictures import in_turn, pick_pairs, read_pictures
from components.evaluation.selection import Choice, Option, Rule, choose
from components.evaluation.selection_page import FILE

SCHEMA = 1
STRIP, SIDE = 4, 256
"""Prompts of a strip, and the longest side of its pictures."""


@dataclass(frozen=True)
class Drawn:
    """An option with the folder of its pictures."""

    step: int
    guidance: float
    pictures: Path
    option: Option


@dataclass(frozen=True)
class Found:
    """What a search chose, and the options that it looked at: guidance scales at the last checkpoint, checkpoints at the chosen one."""

    step: int
    guidance: float
    guidances: list[Drawn]
    checkpoints: list[Drawn]
    by_guidance: Choice
    by_checkpoint: Choice


def search(steps: Sequence[int], guidances: Sequence[float], rule: Rule, draw: Callable[[int, float], Drawn]) -> Found:
    """Choose the guidance at the last checkpoint, then the checkpoint at that guidance: as many drawings as there are of both, less one.

    In this order because guidance moves the scores more: chosen second, it finds a checkpoint that was taken to make up for a
    bad one. ``guidances`` begin with the default; of those that tie the nearer to it is preferred.
    """
    default = guidances[0]
    nearest = sorted(dict.fromkeys(guidances), key=lambda value: (abs(value - default), value))
    by_guidance = [draw(steps[-1], value) for value in nearest]
    choice = choose([item.option for item in by_guidance], rule)
    guidance = nearest[choice.chosen]
    checkpoints = [by_guidance[choice.chosen] if step == steps[-1] else draw(step, guidance) for step in steps]
    at = choose([item.option for item in checkpoints], rule)
    return Found(steps[at.chosen], guidance, by_guidance, checkpoints, choice, at)


def write_selection(folder: Path, found: Found, rule: Rule, record: Mapping[str, Any]) -> None:
    """Write ``selection.json`` and the pictures of the strips."""
    limits = [limit.model_dump(mode="json", exclude_none=True) for limit in rule.limits]
    with atomic_folder(folder) as made:
        strips = {(item.step, item.guidance): _strip(item, made) for item in (*found.guidances, *found.checkpoints)}
        write_json(made / FILE, {
            "schema": SCHEMA, **record, "score": rule.score, "limits": limits, "confidence": rule.confidence,
            "default": {"step": found.checkpoints[-1].step, "guidance": found.guidances[0].guidance},
            "chosen": {"step": found.step, "guidance": found.guidance},
            "guidances": sorted(_rows(found.guidances, found.by_guidance, strips), key=lambda row: float(row["guidance"])),
            "checkpoints": _rows(found.checkpoints, found.by_checkpoint, strips),
        })  # fmt: skip


def _rows(items: Sequence[Drawn], choice: Choice, strips: Mapping[tuple[int, float], list[dict[str, str]]]) -> list[dict[str, Any]]:
    return [
        {
            "step": item.step, "guidance": item.guidance, "scores": {name: dict(score) for name, score in item.option.scores.items()},
            "behind": dict(zip(("value", "low", "high"), choice.behind[index], strict=True)),
            "inside": choice.inside[index], "tied": choice.tied[index], "best": index == choice.best, "chosen": index == choice.chosen,
            "strip": strips[item.step, item.guidance],
        }
        for index, item in enumerate(items)
    ]  # fmt: skip


def _strip(item: Drawn, folder: Path) -> list[dict[str, str]]:
    """The first repeats of the same few prompts, from all categories, made small."""
    rows = []
    for index, (picture, _) in enumerate(in_turn(pick_pairs(read_pictures(item.pictures), [], STRIP), STRIP)):
        image, name = load_rgb(picture.path), f"step-{item.step:08d}-g{item.guidance:g}-{index}.png"
        image.thumbnail((SIDE, SIDE), Pillow.Resampling.LANCZOS)
        image.save(folder / name)
        rows.append({"file": name, "prompt": picture.prompt})
    return rows
