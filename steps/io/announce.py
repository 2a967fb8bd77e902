"""One line when a step begins to work, so that a quiet log still says where the run is."""

from __future__ import annotations

import logging

from zenml import get_step_context

from steps.io.eviction import leave_when_evicted

_logger = logging.getLogger(__name__)


def announce() -> None:
    """ZenML's start hook: name the step. Steps from the cache never start, so they say nothing."""
    leave_when_evicted()
    _logger.info("step %s", get_step_context().step_run.name)
