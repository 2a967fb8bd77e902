"""A comparison in MLflow: one parent run with tables and pages, and one child run per cell and variant."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.paths import read_json
from components.registry.tracking import Tracking, score_metrics

TAG_PREFIX = "styleforge."
PARENT_TAG = "mlflow.parentRunId"
"""The tag by which MLflow's pages nest runs."""
_COSTS = ("seconds", "selection_seconds", "peak_memory_bytes", "saved_bytes")


def log_comparison(
    tracking: Tracking, *, experiment: str, folder: Path, settings: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Log a comparison's folder: all files and the shared ``settings`` to the parent run, a variant's ``changes`` to its cells' runs.

    Returns the parent's ``run_id``, and ``cells``, which maps ``variant/style/seed`` to the child's run id. A failed cell's run is marked
    as failed.
    """
    result = read_json(folder / "comparison.json")
    children: dict[str, str] = {}
    with tracking.run(experiment, result["name"], {f"{TAG_PREFIX}kind": "comparison"}) as parent:
        facts = {"methods": [item["name"] for item in result["variants"]], "equal": result["equal"]}
        tracking.log_params(parent, {**settings, **{f"comparison.{key}": value for key, value in facts.items()}})
        tracking.log_params(parent, {f"comparison.{key}": result[key] for key in ("styles", "seeds")})
        tracking.log_metrics(parent, _parent_metrics(result))
        tracking.client.log_artifacts(parent, str(folder))
        for cell in result["cells"]:
            for variant in cell["variants"]:
                name = f"{variant}/{cell['style']}/{cell['seed']}"
                children[name] = _log_cell(tracking, experiment, parent, name, variant, cell, changes.get(variant, {}))
    return {"run_id": parent, "cells": children}


def _parent_metrics(result: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    verdicts = [claim["verdict"] for claim in result["claims"]]
    rows = [(f"claims/{verdict.replace(' ', '_')}", float(verdicts.count(verdict)), 0) for verdict in ("held", "not held", "undecided")]
    failed = sum(cell["status"] == "failed" for cell in result["cells"])
    return [*rows, ("cells/failed", float(failed), 0), ("cells/completed", float(len(result["cells"]) - failed), 0)]


def _log_cell(
    tracking: Tracking, experiment: str, parent: str, name: str, variant: str, cell: Mapping[str, Any], changes: Mapping[str, Any]
) -> str:
    tags = {PARENT_TAG: parent, f"{TAG_PREFIX}kind": "comparison cell", f"{TAG_PREFIX}cell": cell["id"]}
    if cell["error"]:
        tags[f"{TAG_PREFIX}error"] = cell["error"]
    run_id = tracking.start(experiment, name, tags)
    tracking.log_params(run_id, {"variant": variant, "style": cell["style"], "seed": cell["seed"], "steps": cell["steps"], **changes})
    costs = [(f"cost/{key}", float(value), 0) for key in _COSTS if (value := (cell.get("cost") or {}).get(key)) is not None]
    tracking.log_metrics(run_id, score_metrics({"style": cell.get("scores")}) + costs)
    tracking.end(run_id, "FAILED" if cell["status"] == "failed" else "FINISHED")
    return run_id
