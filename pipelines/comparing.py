"""Runs a comparison: plans every cell, shares them out among this machine's devices, and tells in plain data what came of it."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.comparison import Cell, Comparison, load_comparison
from components.config import RunConfig
from components.content import digest_value
from components.errors import InputError
from components.paths import read_json, state, write_json
from components.registry.tracking import is_new, public_uri, tracking_uri
from pipelines.actions import pocket_style
from pipelines.environment import prepare_environment
from pipelines.lightweight import lightweight_zenml
from pipelines.outcome import error_json, known_error
from pipelines.plan import plan_run
from pipelines.runtime import LOCAL, connect, find_run, output_folder, stack_flavors, terminate_as_interrupt
from pipelines.settings import check_settings, default_settings_file, settings_for
from pipelines.sources import within_reach

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

_logger = logging.getLogger(__name__)
_RESULT = "comparison.json"
_NOT_OF_A_CELL = ("explain", "report", "register")


@dataclass(frozen=True)
class Wish:
    """What to compare and how: the configuration file with its overrides, caching, settings, cells at a time, and where results go.

    ``parallel`` None means one for each accelerator of this machine, or without one as many as its cores and memory carry.
    """

    config: Path
    overrides: tuple[str, ...] = ()
    use_cache: bool = True
    settings: Path | None = None
    parallel: int | None = None
    out: Path | None = None
    verbose: bool = False


@dataclass
class CompareResult:
    """What a comparison came to; :meth:`as_dict` is what ``--json`` prints."""

    status: str = "failed"
    run_id: str | None = None
    folder: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    tracking: dict[str, Any] | None = None
    steps: int = 0
    cached: int = 0
    total_seconds: float = 0.0
    error: Exception | None = None

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The cells without a result."""
        return [cell for cell in self.result.get("cells", []) if cell["status"] == "failed"]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON: the claims and the failed cells; the tables are in the files."""
        data = {key: value for key, value in vars(self).items() if key not in ("error", "result")}
        cells = self.result.get("cells", [])
        shown = ("id", "variants", "style", "seed", "error")
        data["cells"] = {"total": len(cells), "failed": [{key: cell[key] for key in shown} for cell in self.failed]}
        data["claims"] = [
            {key: claim[key] for key in ("name", "metric", "verdict", "seeds", "seeds_needed")} for claim in self.result.get("claims", [])
        ]
        if self.error is not None:
            data["error"] = error_json(self.error)
        return data


def run_comparison(wish: Wish) -> CompareResult:
    """Run every cell, compare them, and wait for the end.

    Returns:
        The result: ``completed``, ``incomplete`` where cells failed, or ``failed`` where no cell finished. An error that ended
        the run is in it, not raised.

    Raises:
        InputError, ServiceUnreachable: found before anything ran.
        KeyboardInterrupt: the user stopped the run; finished cells and what can be resumed are kept.
    """
    started = time.monotonic()
    prepare_environment(verbose=wish.verbose)
    comparison = load_comparison(wish.config, wish.overrides)
    _render_styles(comparison)
    cells = equalize(comparison)
    plan = plan_comparison(comparison, cells)
    settings = wish.settings or default_settings_file()
    if settings is not None:
        check_settings(settings)
    with terminate_as_interrupt():
        connect()
        errors = _run_shards(wish, cells)
        for cell in plan["cells"]:
            cell["error"] = (errors or {}).get(cell["id"])
        # What other processes have run is in the cache now.
        result = run_plan(plan, comparison.config.name, settings, use_cache=wish.use_cache or errors is not None)
    if result.run_id and result.error is None:
        _publish(result, wish.out)
    result.total_seconds = round(time.monotonic() - started, 2)
    if result.run_id:
        write_json(state("runs", result.run_id) / "result.json", result.as_dict())
    return result


def _render_styles(comparison: Comparison) -> None:
    for style in comparison.config.styles:
        if style.source is None:
            pocket_style(style.name)


def equalize(comparison: Comparison) -> list[Cell]:
    """The cells; for equal compute with steps such that each passes as many pictures through the UNet as the costliest method.

    A step passes its StyleRef pictures and, where Aux pictures preserve, as many of those as the run says.
    """
    cells = comparison.cells()
    if comparison.config.equal == "steps":
        return cells
    methods = {variant.name for variant in comparison.config.methods}
    budget = max(_pictures_a_step(cell.config) * cell.config.training.steps for cell in cells if methods & set(cell.variants))
    return [_with_steps(cell, max(1, round(budget / _pictures_a_step(cell.config)))) for cell in cells]


def _pictures_a_step(config: RunConfig) -> int:
    from components.diffusion.methods import method_for

    training = config.training
    preserves = config.aux.source or method_for(config.method).preserves
    aux = 0 if preserves == "none" else training.aux_batch_size or training.batch_size
    return (training.batch_size + aux) * training.gradient_accumulation * training.processes


def _with_steps(cell: Cell, steps: int) -> Cell:
    config = cell.config.model_copy(update={"training": cell.config.training.model_copy(update={"steps": steps})})
    return dataclasses.replace(cell, id=config.digest()[:16], config=config)


def plan_comparison(comparison: Comparison, cells: Sequence[Cell]) -> dict[str, Any]:
    """What the pipeline needs: the cells with the parameters of their steps (each distinct set once), and how to compare them.

    Raises:
        InputError: a folder, file or model that the configuration names is not there.
        ServiceUnreachable: MLflow does not answer.
    """
    sections: dict[str, Any] = {}
    rows = []
    for cell in cells:
        names = {}
        for step, parameters in _cell_plan(cell.config).items():
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


def _cell_plan(config: RunConfig) -> dict[str, Any]:
    from components.diffusion.methods import method_for

    plan = {step: parameters for step, parameters in plan_run(config).items() if step not in _NOT_OF_A_CELL}
    return {**plan, "measure": {"tokens": list(method_for(config.method).tokens), "scoring": config.scoring.model_dump(mode="json")}}


def _shared_settings(cells: Sequence[Cell]) -> dict[str, Any]:
    """The settings that have the same value in every cell."""
    first, *others = [cell.config.flat() for cell in cells]
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def run_plan(
    plan: Mapping[str, Any], name: str, settings: Path | None, *, use_cache: bool, concurrent: bool | None = None
) -> CompareResult:
    """Run the pipeline of a plan.

    Args:
        plan: of :func:`plan_comparison`.
        name: of the comparison.
        settings: a ``zenml.yaml``.
        use_cache: False re-runs every step.
        concurrent: start all cells at once; default: where the stack runs each step on a machine of its own.
    """
    from pipelines.compare import compare
    from pipelines.preflight import check_access
    from steps import workspace

    workspace.sweep()
    if not _on_this_machine():
        check_access()
        plan = _within_reach(plan)
    if concurrent is None:
        concurrent = not _on_this_machine()
    run_name = f"compare-{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    options: dict[str, Any] = {"run_name": run_name}
    if settings is not None:
        options["config_path"] = str(settings_for(settings, stack_flavors()))
    if not use_cache:
        options["enable_cache"] = False
    result = CompareResult(status="completed")
    uri = tracking_uri(plan["track"]["tracking_uri"]) if "track" in plan else None
    try:
        with lightweight_zenml():
            compare.with_options(**options)(plan=plan, concurrent=concurrent, empty_registry=uri is not None and is_new(uri))
    except Exception as problem:
        _logger.debug("the comparison failed", exc_info=problem)
        result.error = known_error(problem)
        result.status = getattr(result.error, "status", "failed")
    finally:
        workspace.release([])
    run = find_run(run_name)
    if run is not None:
        _gather(run, plan, result)
    return result


def _within_reach(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with each cell's local folders of pictures put where pods can read them."""
    scans = {cell["plan"]["scan"] for cell in plan["cells"]}
    return {**plan, "sections": {**plan["sections"], **{key: within_reach({"scan": plan["sections"][key]})["scan"] for key in scans}}}


def _gather(run: PipelineRunResponse, plan: Mapping[str, Any], result: CompareResult) -> None:
    result.run_id = str(run.id)
    result.steps = len(run.steps)
    result.cached = sum(step.status.value == "cached" for step in run.steps.values())
    if result.error is not None or "compare" not in plan:
        return
    result.folder = str(output_folder(run, "compare"))
    result.result = read_json(Path(result.folder) / _RESULT)
    result.tracking = read_json(output_folder(run, "track") / "tracking.json")
    done = len(result.result["cells"]) - len(result.failed)
    result.status = "completed" if not result.failed else "incomplete" if done else "failed"


def _publish(result: CompareResult, out: Path | None) -> None:
    """Copy the files to where people find them, and may edit them: a link would change what the cache holds."""
    target = out or state("runs", str(result.run_id)) / "comparison"
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(Path(str(result.folder)).iterdir()):
        shutil.copyfile(source, target / source.name)
        result.files[source.name] = str(target / source.name)
    result.folder = str(target)


def _on_this_machine() -> bool:
    """Whether the active stack runs every step in this process."""
    return LOCAL in stack_flavors()


def _shards(wish: Wish, cells: Sequence[Cell]) -> int:
    from pipelines.shards import devices, processes_that_fit

    if wish.parallel is not None and wish.parallel < 1:
        raise InputError(f"--parallel {wish.parallel}", "is not a number of cells", expected="at least 1")
    return wish.parallel or devices() or processes_that_fit({cell.config.base.model for cell in cells})


def _run_shards(wish: Wish, cells: Sequence[Cell]) -> dict[str, str] | None:
    """Run the cells in processes of their own, where more than one at a time is wished for. Gives the errors by cell, or None."""
    from pipelines.shards import run_shards

    count = min(_shards(wish, cells), len(cells))
    if count < 2 or not _on_this_machine():
        return None
    return run_shards(wish, count)
