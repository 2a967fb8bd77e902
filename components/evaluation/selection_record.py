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
from components.evaluation.selection import Choice, Option, Point, Rule, choose
from components.evaluation.selection_page import FILE

SCHEMA = 1
STRIP, SIDE = 4, 256
"""Prompts of a strip, and the longest side of its pictures."""


@dataclass(frozen=True)
class Drawn:
    """An option with the folder of its pictures."""

    pictures: Path
    option: Option


@dataclass(frozen=True)
class Found:
    """What a search chose, and the options that it looked at, by what they differ in: each group with the choice in it."""

    default: Point
    chosen: Point
    groups: dict[str, tuple[list[Drawn], Choice]]


def search(
    steps: Sequence[int], guidances: Sequence[float], style_guidances: Sequence[float], rule: Rule, draw: Callable[[Point], Drawn]
) -> Found:
    """Choose the guidance at the last checkpoint, the style's own scale at that guidance, then the checkpoint at both.

    In this order because guidance moves the scores more: chosen second, it finds a checkpoint that was taken to make up for a
    bad one. Scales begin with the default; of those that tie the nearer to it is preferred. ``style_guidances`` are empty where
    the method has no such scale. No point is drawn twice.
    """
    default = Point(steps[-1], guidances[0], *style_guidances[:1])
    drawn: dict[Point, Drawn] = {}
    groups = {}
    point = default
    for group, name, values in (
        ("guidances", "guidance", _nearest_first(guidances)), ("style_guidances", "style_guidance", _nearest_first(style_guidances)),
        ("checkpoints", "step", steps),
    ):  # fmt: skip
        changes: list[dict[str, Any]] = [{name: value} for value in values]
        points = [point._replace(**change) for change in changes]
        for each in points:
            if each not in drawn:
                drawn[each] = draw(each)
        if points:
            choice = choose([drawn[each].option for each in points], rule)
            groups[group] = ([drawn[each] for each in points], choice)
            point = points[choice.chosen]
    return Found(default, point, groups)


def _nearest_first(scales: Sequence[float]) -> list[float]:
    return sorted(dict.fromkeys(scales), key=lambda value: (abs(value - scales[0]), value))


def write_selection(folder: Path, found: Found, rule: Rule, record: Mapping[str, Any]) -> None:
    """Write ``selection.json`` and the pictures of the strips."""
    limits = [limit.model_dump(mode="json", exclude_none=True) for limit in rule.limits]
    with atomic_folder(folder) as made:
        strips = {item.option.at: _strip(item, made) for items, _ in found.groups.values() for item in items}
        groups = {name: _rows(items, choice, strips) for name, (items, choice) in found.groups.items()}
        write_json(made / FILE, {
            "schema": SCHEMA, **record, "score": rule.score, "limits": limits, "confidence": rule.confidence,
            "default": found.default.as_json(), "chosen": found.chosen.as_json(), **groups,
        })  # fmt: skip


def _rows(items: Sequence[Drawn], choice: Choice, strips: Mapping[Point, list[dict[str, str]]]) -> list[dict[str, Any]]:
    """By rising step and scales."""
    return [
        {
            **item.option.at.as_json(), "scores": {name: dict(score) for name, score in item.option.scores.items()},
            "behind": dict(zip(("value", "low", "high"), choice.behind[index], strict=True)),
            "inside": choice.inside[index], "tied": choice.tied[index], "best": index == choice.best, "chosen": index == choice.chosen,
            "strip": strips[item.option.at],
        }
        for index, item in sorted(enumerate(items), key=lambda pair: pair[1].option.at)
    ]  # fmt: skip


def _strip(item: Drawn, folder: Path) -> list[dict[str, str]]:
    """The first repeats of the same few prompts, from all categories, made small."""
    rows = []
    for index, (picture, _) in enumerate(in_turn(pick_pairs(read_pictures(item.pictures), [], STRIP), STRIP)):
        image, name = load_rgb(picture.path), f"{item.option.at}-{index}.png"
        image.thumbnail((SIDE, SIDE), Pillow.Resampling.LANCZOS)
        image.save(folder / name)
        rows.append({"file": name, "prompt": picture.prompt})
    return rows
