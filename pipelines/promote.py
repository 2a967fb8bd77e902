"""Promotion as a pipeline, for schedules and for stacks whose steps have the resources to rescore a champion. Wiring only."""

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from steps.registry.promote import judge
from steps.registry.promote import promote as move


@pipeline(
    name="promote", execution_mode=ExecutionMode.FAIL_FAST, enable_cache=False, enable_step_logs=False, enable_pipeline_logs=False,
    enable_heartbeat=False,
)  # fmt: skip
def promote(request: dict[str, Any]) -> None:
    """Judge a registered version, then make it the champion; ``request`` is as in :func:`steps.registry.promote.judge`."""
    move(judge(request=request), request=request)
