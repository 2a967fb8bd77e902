"""What the report shows of the selection: the choice, with curves and each option's pictures of the same prompts, and previews."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.images import load_rgb
from components.core.metrics import SPECS, Metric
from components.core.model_card import CARD
from components.core.pages import thumbnail
from components.core.paths import read_json
from components.evaluation import charts

FILE = "selection.json"
EXPORTED = "exported.json"
SIDE, SHEET = 160, 480


def selection_section(model: Path) -> dict[str, Any] | None:
    """What the template shows of a model's ``training/selection``; None if the model was not selected from several options."""
    folder = model / "training" / "selection"
    if not (folder / FILE).is_file():
        return None
    found = read_json(folder / FILE)
    groups = [
        ("checkpoints", "step", "checkpoint"), ("guidances", "guidance", "guidance scale"),
        ("style_guidances", "style_guidance", "guidance scale of the style"),
    ]  # fmt: skip
    score = SPECS[found["score"]]
    card = model / CARD
    training = read_json(card).get("training", {}) if card.is_file() else {}
    return {
        "ended": (training["ended_at"], training["steps"]) if "ended_at" in training else None,
        "chosen": found["chosen"], "default": found["default"], "moved": found["chosen"] != found["default"], "prompts": found["prompts"],
        "reference_n": found["reference_n"], "confidence": found["confidence"], "score": score,
        "limits": [
            (SPECS[name].label, "at least" if least else "at most", SPECS[name].text(value)) for name, value, least in _limits(found)
        ],
        "groups": [
            group for key, x, title in groups if len(rows := found.get(key, ())) > 1 for group in _groups(folder, found, rows, x, title)
        ],
    }  # fmt: skip


def preview_rows(model: Path) -> dict[str, Any] | None:
    """The preview sheets by step, and the model's pictures beside those of its exported file; None if there are neither."""
    folder = model / "training"
    sheets = [(int(file.stem.removeprefix("step-")), file) for file in sorted((folder / "previews").glob("step-*.png"))]
    exported = read_json(folder / EXPORTED) if (folder / EXPORTED).is_file() else None
    if not sheets and exported is None:
        return None
    return {
        "sheets": [{"step": step, "picture": thumbnail(load_rgb(file), SHEET)} for step, file in sheets],
        "file": exported["file"] if exported else "",
        "exported": [
            {**row, "own": thumbnail(load_rgb(folder / row["model"]), SIDE), "other": thumbnail(load_rgb(folder / row["exported"]), SIDE)}
            for row in (exported["pictures"] if exported else [])
        ],
    }


def _limits(found: Mapping[str, Any]) -> list[tuple[str, float, bool]]:
    """Score, limit, and whether it is a lower limit."""
    return [(row["metric"], row["at_least"] if "at_least" in row else row["at_most"], "at_least" in row) for row in found["limits"]]


def _groups(folder: Path, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], x: str, title: str) -> list[dict[str, Any]]:
    """The groups to show: one, or one per training if checkpoints come from several."""
    best = next(float(row["scores"][found["score"]]["value"]) for row in rows if row["best"])
    seeds = list(dict.fromkeys(row.get("seed") for row in rows)) if x == "step" else []
    if len(seeds) < 2:
        return [_group(folder, found, rows, x, title, best)]
    return [_group(folder, found, [row for row in rows if row["seed"] == seed], x, f"{title}, seed {seed}", best) for seed in seeds]


def _group(folder: Path, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], x: str, title: str, best: float) -> dict[str, Any]:
    score, limits = SPECS[found["score"]], {name: value for name, value, _ in _limits(found)}
    others = [SPECS[name] for name in limits if name != found["score"]]

    def curve(metric: Metric) -> str:
        return charts.choice_curve(rows, x, metric, limits.get(metric.key), best=best if metric is score else None)

    return {
        "title": title, "curves": [(metric.title, curve(metric)) for metric in (score, *others)],
        "columns": [_column(folder, row, x, score) for row in rows], "prompts": [item["prompt"] for item in rows[0]["strip"]],
    }  # fmt: skip


def _column(folder: Path, row: Mapping[str, Any], x: str, score: Metric) -> dict[str, Any]:
    state = "chosen" if row["chosen"] else "outside the limits" if not row["inside"] else "a tie" if row["tied"] else ""
    return {
        "name": f"{row[x]:g}", "value": score.text(row["scores"][score.key]["value"]), "state": state, "chosen": row["chosen"],
        "pictures": [thumbnail(load_rgb(folder / item["file"]), SIDE) for item in row["strip"]],
    }  # fmt: skip
