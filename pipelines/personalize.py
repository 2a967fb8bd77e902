"""The main job: from a folder of style pictures to a scored and registered style model. Wiring only."""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.wiring import train_and_score
from steps.announce import announce
from steps.explain import explain
from steps.register import register
from steps.report import report


# No retries: they would swallow Ctrl-C. Logs and heartbeats would only cost time on one machine.
@pipeline(
    name="personalize", execution_mode=ExecutionMode.FAIL_FAST, on_start=announce,
    enable_step_logs=False, enable_pipeline_logs=False, enable_heartbeat=False,
)  # fmt: skip
def personalize(plan: dict[str, dict[str, Any]], empty_registry: bool = False) -> None:
    """Connect the steps.

    Args:
        plan: the parameters of each step, of :func:`pipelines.plan.plan_run`.
        empty_registry: register in any case; a registration of the cache would name a version that is gone.
    """
    made = train_and_score(plan, lambda step, *inputs, after=(), **parameters: step(*inputs, after=list(after), **parameters))
    attention = explain(made.model, **plan["explain"])
    page = report(
        made.style_set, made.validation, made.division, made.aux, made.model, made.pictures, made.base_pictures, made.scores, attention,
        **plan["report"],
    )  # fmt: skip
    register_step = register.with_options(enable_cache=False) if empty_registry else register
    register_step(made.style_set, made.model, made.pictures, made.scores, page, **plan["register"])
