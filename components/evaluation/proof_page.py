"""The part of the report that answers: is it the style, for which kinds of prompts, and is any of it copied?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.images import load_rgb
from components.core.metrics import MEASURES, SPECS, Metric
from components.core.pages import thumbnail
from components.evaluation.pictures import read_pictures
from components.evaluation.score_rows import score_row

_SIDE = 160
_ALSO = {"truth": "to the artist's others", "other_artists": "other artists' drawings of the concept"}
"""What a row of truth says besides, by the key in ``measures``."""


def proof(scores: Mapping[str, Any], drawn: Path, style_ref: Sequence[Path]) -> dict[str, Any] | None:
    """What the page shows of the measures; None if the run made none. ``style_ref`` are StyleRef's files, in the style set's order."""
    measures = scores.get("measures")
    if measures is None:
        return None
    rows = [_row(SPECS[key], scores["style"], scores["base"], measures) for key in MEASURES if scores["style"].get(key)]
    return {
        "rows": rows,
        "roles": _roles(scores.get("by_category") or {}),
        "nearest": _nearest(measures["nearest"], drawn, style_ref),
        "limit": measures["copy_limit"],
        "notes": measures["notes"],
        "extractors": scores["context"]["measures"]["extractors"],
    }


def _row(metric: Metric, style: Mapping[str, Any], base: Mapping[str, Any], measures: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table; ``own`` is what the held-out pictures of the style score. Older runs lack some of these."""

    def also(key: str) -> str:
        found = measures.get(key, {}).get(metric.key)
        return metric.interval(found) if found else ""

    told = [f"{said} {text}" for key, said in _ALSO.items() if (text := also(key))]
    row = score_row(metric, style[metric.key], base.get(metric.key))
    return row | {"help": "; ".join([metric.help, *told]), "own": also("reference")}


def _roles(by_category: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    metric = SPECS["style_score"]
    return {
        category: score_row(metric, values[metric.key], values.get(f"{metric.key}_base"))
        for category, values in by_category.items()
        if metric.key in values
    }


def _nearest(rows: Sequence[Mapping[str, Any]], drawn: Path, style_ref: Sequence[Path]) -> list[dict[str, Any]]:
    by_name = {picture.path.name: picture for picture in read_pictures(drawn)}
    return [
        {
            "drawn": thumbnail(load_rgb(by_name[row["file"]].path), _SIDE), "own": thumbnail(load_rgb(style_ref[row["style_ref"]]), _SIDE),
            "prompt": by_name[row["file"]].prompt, "similarity": f"{row['similarity']:.2f}",
        }
        for row in rows
    ]  # fmt: skip
