"""The search through checkpoints and guidance scales, and its record: each option's figures and a strip of pictures of the same prompts."""

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
Checkpoint = tuple[int, int | None]
"""A step, and the seed of its training if there are several trainings."""
STRIP, SIDE = 4, 256
"""Number of prompts in a strip, and the longest side of its pictures in pixels."""


@dataclass(frozen=True)
class Drawn:
    """An option with the folder of its pictures."""

    pictures: Path
    option: Option


@dataclass(frozen=True)
class Found:
    """What a search chose, and the options it compared, grouped by what they differ in, each group with the choice made in it."""

    default: Point
    chosen: Point
    groups: dict[str, tuple[list[Drawn], Choice]]


def search(
    default: Point, checkpoints: Sequence[Checkpoint], guidances: Sequence[float], style_guidances: Sequence[float], rule: Rule,
    draw: Callable[[Point], Drawn],
) -> Found:  # fmt: skip
    """Choose the guidance at the default checkpoint, the style's own scale at that guidance, then the checkpoint at both.

    The order matters because guidance moves the scores more: if the checkpoint came first, it would be chosen to make up for a bad
    guidance. ``guidances`` and ``style_guidances`` are tried besides the default's own scales. Of scales that tie, the one nearest to the
    default's is preferred, and of ``checkpoints`` the first. No point is drawn twice.
    """
    drawn: dict[Point, Drawn] = {}
    groups = {}
    point = default
    changes: list[tuple[str, list[dict[str, Any]]]] = [
        ("guidances", [{"guidance": scale} for scale in _nearest_first(default.guidance, guidances)]),
        ("style_guidances", [{"style_guidance": scale} for scale in _nearest_first(default.style_guidance, style_guidances)]),
        ("checkpoints", [{"step": step, "seed": seed} for step, seed in checkpoints]),
    ]
    for group, each_change in changes:
        points = [point._replace(**change) for change in each_change]
        for each in points:
            if each not in drawn:
                drawn[each] = draw(each)
        if points:
            choice = choose([drawn[each].option for each in points], rule)
            groups[group] = ([drawn[each] for each in points], choice)
            point = points[choice.chosen]
    return Found(default, point, groups)


def _nearest_first(own: float | None, others: Sequence[float]) -> list[float]:
    """All scales, the nearest to the method's own first; empty if the method has no such scale."""
    return [] if own is None else sorted({own, *others}, key=lambda value: (abs(value - own), value))


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
    """One row per option, by rising step and scales."""
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
    """Save small copies of an option's pictures (first repeats of the same few prompts, from all categories); returns their rows."""
    rows = []
    for index, (picture, _) in enumerate(in_turn(pick_pairs(read_pictures(item.pictures), [], STRIP), STRIP)):
        image, name = load_rgb(picture.path), f"{item.option.at}-{index}.png"
        image.thumbnail((SIDE, SIDE), Pillow.Resampling.LANCZOS)
        image.save(folder / name)
        rows.append({"file": name, "prompt": picture.prompt})
    return rows
