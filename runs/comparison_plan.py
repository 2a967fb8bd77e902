"""Plans a comparison: its cells with equal budgets, and the parameters of their steps."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.comparison import Cell, Comparison
from components.core.config import RunConfig
from components.core.content import digest_value
from components.registry.tracking import public_uri, tracking_uri
from runs.plan import lookups, plan_run

_NOT_OF_A_CELL = ("examine", "explain", "report", "register")


@dataclass(frozen=True)
class CompareOptions:
    """What to compare and how: the configuration file with its overrides, caching, settings, parallel cells and output folder.

    ``parallel`` None means one cell for each accelerator of this machine or, without any, as many as its cores and memory allow.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    use_cache: bool = True
    settings: Path | None = None
    parallel: int | None = None
    out: Path | None = None


def equalize(comparison: Comparison) -> list[Cell]:
    """Return the cells; for equal compute, set their steps so that as many pictures pass through the denoiser as for the costliest method.

    A step passes its StyleRef pictures and, if Aux pictures are used for preservation, the configured number of those; any extra
    passes that a loss makes count too.
    """
    cells = comparison.cells()
    if comparison.config.equal == "steps":
        return cells
    methods = {variant.name for variant in comparison.config.methods}
    budget = max(_passes_a_step(cell.config) * cell.config.training.steps for cell in cells if methods & set(cell.variants))
    equal = []
    for cell in cells:
        training = cell.config.training.model_copy(update={"steps": max(1, round(budget / _passes_a_step(cell.config)))})
        config = cell.config.model_copy(update={"training": training})
        equal.append(dataclasses.replace(cell, id=config.digest()[:16], config=config))
    return equal


def _passes_a_step(config: RunConfig) -> int:
    from components.diffusion.training.methods import method_for

    training, method = config.training, method_for(config.method)
    preserves = config.aux.source or method.preserves
    aux = 0 if preserves == "none" else training.aux_batch_size or training.batch_size
    return method.forwards(training.batch_size, aux) * training.gradient_accumulation * training.processes


def plan_comparison(comparison: Comparison, cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the cells with the parameters of their steps (each distinct set once), and how to compare them.

    Raises:
        InputError: a folder, file or model that the configuration names does not exist.
        ServiceUnreachable: MLflow does not answer.
    """
    sections: dict[str, Any] = {}
    rows = []
    look_up = lookups()
    for cell in cells:
        names = {}
        for step, parameters in plan_run(cell.config, look_up).items():
            if step in _NOT_OF_A_CELL:
                continue
            names[step] = digest_value([step, parameters])[:16]
            sections[names[step]] = parameters
        rows.append({
            "id": cell.id, "variants": list(cell.variants), "style": cell.style, "seed": cell.seed, "steps": cell.config.training.steps,
            "title": f"{', '.join(cell.variants)}, {cell.style}, seed {cell.seed}", "plan": names, "error": None,
        })  # fmt: skip
    registry = cells[0].config.registry
    settings = _shared_settings(cells)
    return {
        "cells": rows,
        "sections": sections,
        "compare": {"comparison": comparison.config.model_dump(mode="json"), "settings": settings},
        "track": {
            "experiment": registry.experiment, "tracking_uri": registry.tracking_uri, "settings": settings,
            "tracking": public_uri(tracking_uri(registry.tracking_uri)),
            "changes": {variant.name: comparison.changes(variant) for variant in comparison.config.variants},
        },
    }  # fmt: skip


def _shared_settings(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the settings that have the same value in every cell."""
    first, *others = [cell.config.flat() for cell in cells]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
