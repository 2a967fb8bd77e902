"""The comparison as a dynamic pipeline: runs every cell through the same steps, marks failures, then writes the result. Wiring only."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode, StepRuntime

from components.core.content import digest_value
from components.core.errors import StorageError, known_error
from components.core.paths import write_json
from pipelines.wiring import STEPS, train_and_score
from steps.comparison.compare import compare as compare_cells
from steps.comparison.measure import measure
from steps.comparison.track import track
from steps.io import workspace

_logger = logging.getLogger(__name__)
_ALL = frozenset(step.name for step in STEPS)


@dataclass(frozen=True)
class _Output:
    """A step's output, and a digest of everything that produced it: the step, its parameters and its inputs."""

    value: Any
    key: str


class _Launcher:
    """Starts each step only once, since cells share what they have in common (a style's scan, its Aux, the base's pictures).

    On one machine, a step runs where it is called, so that Ctrl-C reaches it and cells finish one after the other. If every step has
    its own machine, steps are submitted and run in parallel as soon as their inputs are ready.
    """

    def __init__(self, concurrent: bool) -> None:
        self.concurrent = concurrent
        self._known: dict[str, _Output | Exception] = {}
        self.failed: str | None = None
        self.trail: list[Any] = []

    def begin(self) -> None:
        """Start a new cell: forget the last cell's failed step and the outputs of its steps."""
        self.failed, self.trail = None, []

    def __call__(self, step: Any, *inputs: _Output, after: Sequence[_Output] = (), **parameters: Any) -> _Output:
        key = digest_value([step.name, [item.key for item in inputs], parameters])
        if key not in self._known:
            try:
                value = self._start(step, [item.value for item in inputs], [item.value for item in after], parameters)
                self._known[key] = _Output(value, key)
            except Exception as error:
                self.failed, self._known[key] = step.name, error
        made = self._known[key]
        if isinstance(made, Exception):
            raise made
        self.trail.append(made.value)
        return made

    def _start(self, step: Any, inputs: Sequence[Any], after: Sequence[Any], parameters: Mapping[str, Any]) -> Any:
        if self.concurrent:
            return step.with_options(runtime=StepRuntime.ISOLATED).submit(*inputs, after=list(after), **parameters)
        return step(*inputs, **parameters)


def _message(error: BaseException) -> str:
    # When steps run in parallel, ZenML wraps the error that a step raised.
    error = getattr(error, "original_exception", None) or error
    return " ".join(str(known_error(error)).split()) or type(error).__name__


def _run_cells(cells: Sequence[Mapping[str, Any]], sections: Mapping[str, Any], launcher: _Launcher) -> dict[str, Any]:
    """Start every cell; return, by cell, its record (or, if steps run in parallel, the futures of its steps) or its error."""
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
            record = launcher(measure, made.model, made.pictures, made.base_pictures, made.scores)
            results[cell["id"]] = launcher.trail if launcher.concurrent else record.value
        except Exception as error:
            if isinstance(known_error(error), StorageError):
                raise  # The disk is full, so every other cell would fail too; finished work is kept.
            _logger.warning("%s failed: %s", cell["title"], _message(error))
            results[cell["id"]] = error
        if not launcher.concurrent:
            # Work of finished steps would fill the disk; that of a failed step is kept to shorten the next attempt.
            workspace.release(_ALL - {launcher.failed})
    return results


def _await(results: Mapping[str, Any]) -> dict[str, Any]:
    """Replace each cell's futures by its record, or by the first error, since later futures only say that they were skipped."""
    found: dict[str, Any] = {}
    for cell_id, result in results.items():
        try:
            found[cell_id] = result if isinstance(result, Exception) else [future.result() for future in result][-1]
        except Exception as error:
            found[cell_id] = error
    return found


# No retries and no fail-fast: a failed cell is marked and the others continue.
@pipeline(
    name="compare", dynamic=True, execution_mode=ExecutionMode.CONTINUE_ON_FAILURE, depends_on=[*STEPS, measure, compare_cells, track],
    enable_step_logs=False, enable_pipeline_logs=False, enable_heartbeat=False,
)  # fmt: skip
def compare(plan: dict[str, Any], concurrent: bool = False, empty_registry: bool = False) -> None:
    """Run the cells, then compare them.

    Args:
        plan: from :func:`runs.comparison_plan.plan_comparison`. Without ``compare`` and ``track``, only the cells are run, and their
            errors are written to the file named by ``errors``.
        concurrent: start all cells at once, for stacks that run each step on its own machine.
        empty_registry: never take ``track`` from the cache, whose result would name runs that no longer exist.
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
