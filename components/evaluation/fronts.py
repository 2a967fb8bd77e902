"""Fronts of style against prompt following over guidance scales: what a method can reach at any guidance, as one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from components.core.comparison import CompareConfig
from components.core.metrics import MAIN
from components.evaluation.metrics import Array
from components.evaluation.significance import Resampled


class Scores(Protocol):
    """The scores of a comparison's cells."""

    def resampled(self, variant: str, style: str, seed: int, metric: str) -> Resampled | None:
        """A score of one cell with its replicates."""
        ...

    def value(self, variant: str, style: str, seed: int, metric: str, group: str) -> float | None:
        """A score of one cell, of its ``base`` or ``style`` pictures."""
        ...


def dominated(kid: ArrayLike, clip_t: ArrayLike, base: Mapping[str, float]) -> Array:
    """(B,) percent of a square that the P points of each of B fronts dominate: the hypervolume of Zitzler and Thiele 1999.

    ``kid`` and ``clip_t`` are (P, B). One side of the square is 1 − KID / the base's KID, the other CLIP-T / the base's CLIP-T, each
    clipped to 0–1. At 0 a front is no nearer to the style than the base, or follows no prompt; at 100 it has the style and follows prompts
    as the base does.
    """
    style = np.clip(1 - np.asarray(kid, float) / base["kid"], 0, 1)
    content = np.clip(np.asarray(clip_t, float) / base["clip_t"], 0, 1)
    order = np.argsort(-style, axis=0, kind="stable")
    style, content = (np.take_along_axis(values, order, 0) for values in (style, content))
    # From the most style to the least: each point adds its width times its gain in prompt following over all points before it.
    added = np.diff(np.maximum.accumulate(content, axis=0), axis=0, prepend=0.0)
    return np.asarray(100 * (style * added).sum(axis=0))


def hypervolume(config: CompareConfig, method: str, style: str, seed: int, scores: Scores) -> Resampled | None:
    """The area that a method's front dominates for one style and seed; None if one of its points or the base's score is missing."""
    points = {key: [scores.resampled(name, style, seed, key) for name in config.front_of(method)] for key in MAIN}
    base = {key: scores.value(method, style, seed, key, "base") for key in MAIN}
    known = {key: [item for item in items if item is not None] for key, items in points.items()}
    if any(len(known[key]) < len(points[key]) for key in MAIN) or None in base.values():
        return None
    fixed = {key: float(value) for key, value in base.items() if value is not None}
    values = [np.array([[item.value] for item in known[key]]) for key in MAIN]
    replicates = [np.stack([item.replicates for item in known[key]]) for key in MAIN]
    return Resampled(float(dominated(values[0], values[1], fixed)[0]), dominated(replicates[0], replicates[1], fixed))


def front_points(config: CompareConfig, method: str, rows: Mapping[str, Mapping[str, Any]], column: str) -> list[dict[str, Any]]:
    """The points of a method's front in one column of the tables, the nearest to the style first.

    Each has its variant, guidance, mean KID and CLIP-T, and ``best``: whether no other point beats it. ``rows`` are the variants' rows by
    score.
    """
    found = [
        {"variant": name, "guidance": guidance, **{key: rows[key][name][column]["mean"] for key in MAIN}}
        for name, guidance in config.front_of(method).items()
        if all(column in rows[key].get(name, {}) for key in MAIN)
    ]
    found.sort(key=lambda point: point["kid"])
    return [point | {"best": not any(_beats(other, point) for other in found)} for point in found]


def _beats(other: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    as_good = other["kid"] <= point["kid"] and other["clip_t"] >= point["clip_t"]
    return bool(as_good and (other["kid"] < point["kid"] or other["clip_t"] > point["clip_t"]))
