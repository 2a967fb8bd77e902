"""The page of restyled pictures: the originals, the baselines' versions and the style model's, with their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.images import load_rgb
from components.core.pages import thumbnail, write_page
from components.evaluation.restyling import LABELS, MEASURES

_SIDE, _SHOWN = 320, 48
_TEMPLATE = Path(__file__).parent / "templates" / "restyle.html.j2"


def write_restyle_page(
    path: Path, names: Sequence[str], prompts: Sequence[str], images: Mapping[str, Sequence[Path]], found: Mapping[str, Any],
    about: Mapping[str, Any],
) -> Path:  # fmt: skip
    """Write the page of N named pictures and return its path; of more than 48 pictures it shows 48, evenly spaced.

    ``images`` are the files of each version and ``found`` their scores, see :meth:`components.evaluation.restyling.Judge.score`; ``about``
    has ``model``, ``style``, ``strength``, ``keep_structure``, ``steps`` and ``guidance``.
    """
    shown = [index * len(names) // min(len(names), _SHOWN) for index in range(min(len(names), _SHOWN))]
    page = {
        **about,
        "n": len(names),
        "columns": list(images),
        "measures": [metric.title for metric in MEASURES.values()],
        "scores": [
            {"label": LABELS[version], "ours": version == "restyled", "cells": [_cell(key, score) for key, score in row.items()]}
            for version, row in found["methods"].items()
        ],
        "rows": [_row(index, names[index], prompts[index], images, found["images"]) for index in shown],
        "confidence": round(100 * found["confidence"]), "extractors": found["extractors"], "notes": found["notes"],
    }  # fmt: skip
    return write_page(path, _TEMPLATE, page)


def _cell(measure: str, score: Mapping[str, Any] | None) -> dict[str, str]:
    if score is None:
        return {"value": "–", "ends": ""}
    metric = MEASURES[measure]
    ends = "" if score["low"] is None else " – ".join(metric.text(score[end], like=score["value"]) for end in ("low", "high"))
    return {"value": metric.text(score["value"]), "ends": ends}


def _row(index: int, name: str, prompt: str, images: Mapping[str, Sequence[Path]], values: Mapping[str, Any]) -> dict[str, Any]:
    versions = []
    for version, paths in images.items():
        found = {MEASURES[key]: rows[index] for key, rows in values[version].items() if rows is not None}
        scores = [f"{metric.label} {metric.text(value)}" for metric, value in found.items()]
        versions.append({"label": LABELS[version], "picture": thumbnail(load_rgb(paths[index]), _SIDE), "scores": scores})
    return {"name": name, "prompt": prompt, "versions": versions}
