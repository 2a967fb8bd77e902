"""The comparison as a dynamic pipeline: every cell through the same steps, failures marked, then tables and pages. Wiring only."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode, StepRuntime

from components.core.errors import StorageError, known_error
from components.core.paths import write_json
from pipelines.wiring import STEPS, train_and_score
from steps.comparison.compare import compare as compare_cells
from steps.comparison.measure import measure
from steps.comparison.track import track
from steps.io import workspace

_logger = logging.getLogger(__name__)
_ALL = frozenset(step.name for step in STEPS)


class _Launcher:
    """Starts steps, each only once: cells share what they have in common (a style's scan, its Aux, the base's pictures).

    On one machine a step runs where it is called, so that Ctrl-C reaches it and cells end one after the other. Where every step
    has a machine of its own, steps are submitted and run side by side as their inputs are there.
    """

    def __init__(self, concurrent: bool) -> None:
        self.concurrent = concurrent
        self._known: dict[str, tuple[Any, Exception | None]] = {}
        self._alive: list[Any] = []
        self.failed: str | None = None
        self.trail: list[Any] = []

    def begin(self) -> None:
        """Forget which step of the last cell failed, and what its steps gave."""
        self.failed, self.trail = None, []

    def __call__(self, step: Any, *inputs: Any, after: Sequence[Any] = (), **parameters: Any) -> Any:
        # Outputs are told apart by identity; they are kept, so that no identity is given out twice.
        key = json.dumps([step.name, [id(item) for item in inputs], parameters], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._start(step, inputs, after, parameters)
            self._alive.append((inputs, self._known[key]))
        output, error = self._known[key]
        if error is not None:
            raise error
        self.trail.append(output)
        return output

    def _start(self, step: Any, inputs: Sequence[Any], after: Sequence[Any], parameters: Mapping[str, Any]) -> tuple[Any, Exception | None]:
        if self.concurrent:
            return step.with_options(runtime=StepRuntime.ISOLATED).submit(*inputs, after=list(after), **parameters), None
        try:
            return step(*inputs, **parameters), None
        except Exception as error:
            self.failed = step.name
            return None, error


def _message(error: BaseException) -> str:
    # Where steps run side by side, ZenML wraps what a step raised.
    error = getattr(error, "original_exception", None) or error
    return " ".join(str(known_error(error)).split()) or type(error).__name__


def _run_cells(cells: Sequence[Mapping[str, Any]], sections: Mapping[str, Any], launcher: _Launcher) -> dict[str, Any]:
    """Start every cell. Gives each cell's record (or, side by side, the futures of its steps) or its error."""
    results: dict[str, Any] = {}
    for number, cell in enumerate(cells, 1):
        if cell["error"] is not None:
            results[cell["id"]] = RuntimeError(cell["error"])
            continue
        _logger.info("cell %d of %d: %s", number, len(cells), cell["title"])
        plan = {name: sections[key] for name, key in cell["plan"].items()}
        launcher.begin()
        try:
            made = train_and_score(plan, launcher)
            inputs = (made.style_set, made.division, made.model, made.pictures, made.base_pictures, made.scores)
            record = launcher(measure, *inputs, **plan["measure"])
            results[cell["id"]] = launcher.trail if launcher.concurrent else record
        except Exception as error:
            if isinstance(known_error(error), StorageError):
                raise  # The disk is full: every other cell would fail too, and finished work is kept.
            _logger.warning("%s failed: %s", cell["title"], _message(error))
            results[cell["id"]] = error
        if not launcher.concurrent:
            # Checkpoints and pictures of finished steps would fill the disk; those of a failed step make the next try short.
            workspace.release(_ALL - {launcher.failed})
    return results


def _await(results: Mapping[str, Any]) -> dict[str, Any]:
    """The record in the place of a cell's futures, or the error of the first that failed: those after it only say they were skipped."""
    found: dict[str, Any] = {}
    for cell_id, result in results.items():
        try:
            found[cell_id] = result if isinstance(result, Exception) else [future.result() for future in result][-1]
        except Exception as error:
            found[cell_id] = error
    return found


# No retries and no fail-fast: a failing cell is marked and the rest go on.
@pipeline(
    name="compare", dynamic=True, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE, depends_on=[*STEPS, measure, compare_cells, track],
    enable_step_logs=False, enable_pipeline_logs=False, enable_heartbeat=False,
)  # fmt: skip
def compare(plan: dict[str, Any], concurrent: bool = False, empty_registry: bool = False) -> None:
    """Run the cells, then compare them.

    Args:
        plan: of :func:`runs.comparison.plan_comparison`: ``cells``, the parameters of their steps in ``sections``, and the
            parameters of ``compare`` and ``track``. Without these two only the cells are run, and their errors written to the
            file in ``errors``.
        concurrent: start all cells at once, for stacks that run each step on a machine of its own.
        empty_registry: record in any case; a recording of the cache would name runs that are gone.
    """
    launcher = _Launcher(concurrent)
    results = _run_cells(plan["cells"], plan["sections"], launcher)
    if concurrent:
        results = _await(results)
    if "compare" not in plan:
        write_json(Path(plan["errors"]), {cell_id: message for cell_id, found in results.items() if (message := _error(found))})
        return
    rows = [
        {**{key: cell[key] for key in ("id", "variants", "style", "seed", "steps")}, "error": _error(results[cell["id"]])}
        for cell in plan["cells"]
    ]
    records = [results[row["id"]] for row in rows if row["error"] is None]
    result = compare_cells(records=records, cells=rows, **plan["compare"])
    track_step = track.with_options(enable_cache=False) if empty_registry else track
    track_step(result, **plan["track"])


def _error(result: Any) -> str | None:
    return _message(result) if isinstance(result, BaseException) else None
