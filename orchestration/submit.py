"""Runs a pipeline on the active stack to its end and fetches ZenML's record of the run."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import known_error
from orchestration.client import find_run, stack_flavors
from orchestration.settings import settings_for

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

_logger = logging.getLogger(__name__)
BUILT_IN = "built-in"


def submit_and_collect(
    pipeline: Any, name: str, *, settings: Path | None = None, use_cache: bool = True, discard_finished: bool = False, **arguments: Any
) -> tuple[PipelineRunResponse | None, Exception | None]:
    """Run a pipeline and wait for it; return the run (None if ZenML has no record of it) and its error (None if nothing was raised here).

    ``name`` is the prefix of the run's name, ``settings`` a ``zenml.yaml``, ``arguments`` those of the pipeline. ``discard_finished``
    removes the resumable work of finished steps; that of stopped or failed steps is always kept.
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


@contextmanager
def lightweight_zenml() -> Iterator[None]:
    """Within the block, make ZenML list packages without a subprocess and, on a stack of built-in parts, load no integrations.

    Loading them takes seconds, and they only bring materializers for torch, pandas and the like; our artifacts are folders with their own.
    """
    from zenml.environment import Environment
    from zenml.integrations.registry import integration_registry

    packages = Environment.__dict__["get_python_packages"]
    Environment.get_python_packages = staticmethod(installed_packages)  # type: ignore[method-assign]
    local = _built_in_stack()
    if local:
        integration_registry.activate_integrations = lambda: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Environment.get_python_packages = packages  # type: ignore[method-assign]
        if local:
            del integration_registry.activate_integrations


def installed_packages() -> list[str]:
    """Return all installed distributions as ``name==version``, sorted, as ``pip freeze`` prints released packages.

    They are read from folder names, because reading the metadata takes half a second.
    """
    folders = {folder.stem for place in dict.fromkeys(sys.path) for folder in Path(place or ".").glob("*.dist-info")}
    return sorted("==".join(folder.rsplit("-", 1)) for folder in folders)


def _built_in_stack() -> bool:
    from zenml.client import Client

    components = [item for parts in Client().active_stack_model.components.values() for item in parts]
    return all(item.flavor.integration in (None, BUILT_IN) for item in components)
