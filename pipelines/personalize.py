"""The main job: from a folder of style pictures to a scored and registered style model. Wiring only."""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from steps.announce import announce
from steps.build_aux import build_aux
from steps.explain import explain
from steps.fine_tune import fine_tune
from steps.register import register
from steps.report import report
from steps.sample_bank import sample_bank
from steps.sample_base import sample_base
from steps.scan import scan
from steps.score import score
from steps.split import split
from steps.validate import validate


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
    style_set = scan(**plan["scan"])
    validation = validate(style_set, **plan["validate"])
    division = split(style_set, **plan["split"], after=["validate"])
    aux = build_aux(style_set, **plan["build_aux"], after=["validate"])
    model = fine_tune(style_set, division, aux, **plan["fine_tune"])
    pictures = sample_bank(model, **plan["sample_bank"])
    attention = explain(model, **plan["explain"])
    base_pictures = sample_base(**plan["sample_base"], after=["validate"])
    scores = score(style_set, division, pictures, base_pictures, **plan["score"])
    page = report(style_set, validation, division, aux, model, pictures, base_pictures, scores, attention, **plan["report"])
    register_step = register.with_options(enable_cache=False) if empty_registry else register
    register_step(style_set, model, pictures, scores, page, **plan["register"])
