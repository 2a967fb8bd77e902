"""Runs a comparison: plans every cell, divides the cells among this machine's devices, and publishes the result."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.comparison import Cell, load_comparison
from components.core.errors import InputError
from components.core.paths import state, write_json
from components.diffusion.training.fit import check_machine
from orchestration.client import connect, terminate_as_interrupt
from orchestration.environment import prepare_environment
from orchestration.settings import check_settings, default_settings_file
from runs.comparison_plan import CompareOptions, equalize, plan_comparison
from runs.comparison_run import CompareResult, on_this_machine, run_plan
from runs.comparison_workers import devices, processes_that_fit, run_workers
from runs.drawing import pocket_style


def run_comparison(options: CompareOptions) -> CompareResult:
    """Run every cell, compare them, and wait until all is finished.

    The result is ``completed``, ``incomplete`` if some cells failed, or ``failed`` if none finished; an error that ended the run is
    returned in the result, not raised.

    Raises:
        InputError, ServiceUnreachable: a problem was found before anything ran.
        KeyboardInterrupt: the user stopped the run; finished and resumable work is kept.
    """
    started = time.monotonic()
    prepare_environment()
    comparison = load_comparison(options.config, options.overrides)
    for style in comparison.config.styles:
        if style.source is None:
            pocket_style(style.name)
    cells = equalize(comparison)
    plan = plan_comparison(comparison, cells)
    settings = options.settings or default_settings_file()
    if settings is not None:
        check_settings(settings)
    with terminate_as_interrupt():
        connect()
        if on_this_machine():
            for cell in cells:
                check_machine(cell.config)
        errors = _run_workers(options, cells, plan, settings)
        for cell in plan["cells"]:
            cell["error"] = (errors or {}).get(cell["id"])
        # The results of the worker processes are now in the cache.
        result = run_plan(plan, comparison.config.name, settings, use_cache=options.use_cache or errors is not None)
    if result.run_id and result.error is None:
        _publish(result, options.out)
    result.total_seconds = round(time.monotonic() - started, 2)
    if result.run_id:
        write_json(state("runs", result.run_id) / "result.json", result.as_dict())
    return result


def _publish(result: CompareResult, out: Path | None) -> None:
    """Copy the files to where users find them; copies, because editing a linked file would change the cache."""
    target = out or state("runs", str(result.run_id)) / "comparison"
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(Path(str(result.folder)).iterdir()):
        shutil.copyfile(source, target / source.name)
        result.files[source.name] = str(target / source.name)
    result.folder = str(target)


def _run_workers(options: CompareOptions, cells: Sequence[Cell], plan: Mapping[str, Any], settings: Path | None) -> dict[str, str] | None:
    """Run the cells in worker processes if several run at a time; return the errors by cell, or None if no workers ran."""
    if options.parallel is not None and options.parallel < 1:
        raise InputError(f"--parallel {options.parallel}", "is not a number of cells", expected="at least 1")
    count = min(options.parallel or devices() or processes_that_fit({cell.config.base.model for cell in cells}), len(cells))
    if count < 2 or not on_this_machine():
        return None
    return run_workers(plan, count, name=plan["compare"]["comparison"]["name"], settings=settings, options=options)
