"""Candidates in MLflow: each checkpoint and guidance that was compared becomes a LoggedModel with metrics and a link to the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.registry.tracking import Tracking

MODEL_TYPE = "styleforge-candidate"
PREFIX = "selection"
GROUPS = ("guidances", "style_guidances", "checkpoints")
AXES = ("step", "guidance", "style_guidance", "seed")
Point = tuple[tuple[str, float], ...]


def log_candidates(tracking: Tracking, experiment: str, run_id: str, name: str, selection: Mapping[str, Any]) -> str:
    """Log every option of a ``selection.json`` as a LoggedModel of a run and return the id of the chosen one.

    Each LoggedModel's own name starts with ``name``. Its metrics are ``selection/<score>`` and the ends of the score's interval, at
    the checkpoint's step. No files are logged: the chosen one's are those of the registered version, and the others have none.
    """
    from mlflow.entities import Metric

    experiment_id, client = tracking.experiment(experiment), tracking.client
    options = {_point(row): row for group in GROUPS for row in selection.get(group, ())}
    found: dict[Point, str] = {}
    metrics = []
    for point, row in sorted(options.items()):
        facts = {axis: str(int(value)) if axis in ("step", "seed") else f"{value:g}" for axis, value in point}
        tags = {f"styleforge.{key}": str(bool(row[key])).lower() for key in ("inside", "tied")}
        # MLflow accepts no dots in a LoggedModel's name.
        title = "-".join([name, *(f"{key.replace('_', '-')}-{value}" for key, value in facts.items())]).replace(".", "_")
        model = client.create_logged_model(experiment_id, title, run_id, tags, facts, MODEL_TYPE)
        found[point] = str(model.model_id)
        for score, values in row["scores"].items():
            for part in ("value", "low", "high"):
                key = f"{PREFIX}/{score}" + ("" if part == "value" else f"_{part}")
                metrics.append(Metric(key, float(values[part]), 0, int(row["step"]), model_id=found[point]))
    client.log_batch(run_id, metrics=metrics)
    chosen = found[_point(selection["chosen"])]
    client.set_logged_model_tags(chosen, {"styleforge.chosen": "true"})
    for model_id in found.values():
        client.finalize_logged_model(model_id, "READY")
    return chosen


def _point(row: Mapping[str, Any]) -> Point:
    """A row's coordinates on AXES: with plain guidance there is no ``style_guidance``, and with a single training no ``seed``."""
    return tuple((axis, row[axis]) for axis in AXES if axis in row)


def log_previews(tracking: Tracking, run_id: str, folder: Path) -> None:
    """Log a training's previews, ``step-….png``, as a single image of the run that changes with the step."""
    from PIL import Image

    for file in sorted(folder.glob("step-*.png")):
        with Image.open(file) as picture:
            tracking.client.log_image(
                run_id, picture.convert("RGB"), key="preview", step=int(file.stem.removeprefix("step-")), synchronous=True
            )
