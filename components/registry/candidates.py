"""Candidates in MLflow: each checkpoint and guidance that was compared is a LoggedModel with its metrics and its link to the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.registry.tracking import Tracking

MODEL_TYPE = "styleforge-candidate"
PREFIX = "selection"


def log_candidates(tracking: Tracking, experiment: str, run_id: str, name: str, selection: Mapping[str, Any]) -> str:
    """Log every option of a ``selection.json`` as a LoggedModel of a run, ``name`` at the front of its own; gives the chosen one's id.

    Its metrics are ``selection/<score>`` with the ends of its interval, at the checkpoint's step. Its files are those of the
    registered version, which the chosen one belongs to; the others have none.
    """
    from mlflow.entities import Metric

    experiment_id, client = tracking.experiment(experiment), tracking.client
    options = {(int(row["step"]), float(row["guidance"])): row for row in (*selection["guidances"], *selection["checkpoints"])}
    found: dict[tuple[int, float], str] = {}
    metrics = []
    for (step, guidance), row in sorted(options.items()):
        facts = {"step": str(step), "guidance": f"{guidance:g}"}
        tags = {f"styleforge.{key}": str(bool(row[key])).lower() for key in ("inside", "tied")}
        # MLflow takes no dots in such a name.
        title = f"{name}-step-{step}-guidance-{guidance:g}".replace(".", "_")
        model = client.create_logged_model(experiment_id, title, run_id, tags, facts, MODEL_TYPE)
        found[step, guidance] = str(model.model_id)
        for score, values in row["scores"].items():
            for part in ("value", "low", "high"):
                key = f"{PREFIX}/{score}" + ("" if part == "value" else f"_{part}")
                metrics.append(Metric(key, float(values[part]), 0, step, model_id=found[step, guidance]))
    client.log_batch(run_id, metrics=metrics)
    chosen = found[int(selection["chosen"]["step"]), float(selection["chosen"]["guidance"])]
    client.set_logged_model_tags(chosen, {"styleforge.chosen": "true"})
    for model_id in found.values():
        client.finalize_logged_model(model_id, "READY")
    return chosen


def log_previews(tracking: Tracking, run_id: str, folder: Path) -> None:
    """Log the previews of a training, ``step-….png``, as one image of a run that changes with the step."""
    from PIL import Image

    for file in sorted(folder.glob("step-*.png")):
        with Image.open(file) as picture:
            tracking.client.log_image(
                run_id, picture.convert("RGB"), key="preview", step=int(file.stem.removeprefix("step-")), synchronous=True
            )
