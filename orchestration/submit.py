"""Runs a pipeline on the active stack to its end, and finds what ZenML has recorded of it."""

from __future__ import annotations

import logging
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import known_error
from orchestration.client import find_run, stack_flavors
from orchestration.fast_start import lightweight_zenml
from orchestration.settings import settings_for

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

_logger = logging.getLogger(__name__)


def submit_and_collect(
    pipeline: Any, name: str, *, settings: Path | None = None, use_cache: bool = True, discard_finished: bool = False, **arguments: Any
) -> tuple[PipelineRunResponse | None, Exception | None]:
    """Run a pipeline and wait for it: the run (None where ZenML has no record of it), and its error (None where it succeeded here).

    ``name`` begins the run's name, ``settings`` is a ``zenml.yaml``, ``arguments`` are the pipeline's. ``discard_finished`` removes what
    finished steps could have resumed; what a stopped or failed one has done stays in any case.
    """
    from steps.io import workspace

    run_name = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    options: dict[str, Any] = {"run_name": run_name}
    if settings is not None:
        options["config_path"] = str(settings_for(settings, stack_flavors()))
    if not use_cache:
        options["enable_cache"] = False
    error: Exception | None = None
    try:
        with lightweight_zenml():
            pipeline.with_options(**options)(**arguments)
    except Exception as problem:
        _logger.debug("%s failed", run_name, exc_info=problem)
        error = known_error(problem)
    finally:
        run = find_run(run_name)
        finished = [step for step, record in run.steps.items() if record.status.value == "completed"] if run and discard_finished else []
        workspace.release(finished)
    return run, error
