"""The main job: from a folder of style pictures to a scored and registered style model. Wiring only."""

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode, StepRuntime

from pipelines.wiring import SHARDED_STEPS, STEPS, Call, train_and_score
from steps.evaluation.report import report
from steps.io.start import announce
from steps.registry.register import register
from steps.sampling.explain import explain
from steps.sampling.sample_bank import join_pictures

ALL_STEPS = (*STEPS, explain, report, register)
"""The steps of an undivided run, in an order in which they can run."""


# No retries, because they would swallow Ctrl-C. On one machine, logs and heartbeats would only cost time.
@pipeline(
    name="personalize", execution_mode=ExecutionMode.FAIL_FAST, on_start=announce,
    enable_step_logs=False, enable_pipeline_logs=False, enable_heartbeat=False,
)  # fmt: skip
def personalize(plan: dict[str, dict[str, Any]], empty_registry: bool = False) -> None:
    """Connect the steps, with the parameters from :func:`runs.plan.plan_run`.

    With ``empty_registry``, ``register`` is never taken from the cache, whose result would name a version that no longer exists.
    """
    connect_steps(plan, lambda step, *inputs, after=(), **parameters: step(*inputs, after=list(after), **parameters), 1, empty_registry)


@pipeline(
    name="personalize-sharded", dynamic=True, execution_mode=ExecutionMode.FAIL_FAST, on_start=announce,
    depends_on=[*SHARDED_STEPS, explain, report, register],
    enable_step_logs=False, enable_pipeline_logs=False, enable_heartbeat=False,
)  # fmt: skip
def personalize_sharded(plan: dict[str, dict[str, Any]], shards: int, pods: bool, empty_registry: bool = False) -> None:
    """Do the same as ``personalize``, with drawing and feature extraction in shards, which run in parallel if each step has its own pod.

    Without ``pods``, the steps run one after the other, so that Ctrl-C reaches them.
    """

    def in_a_pod(step: Any, *inputs: Any, after: Any = (), **parameters: Any) -> Any:
        # Joining shards is quicker than starting a pod, so the orchestrating pod does it.
        runtime = StepRuntime.INLINE if step is join_pictures else StepRuntime.ISOLATED
        return step.with_options(runtime=runtime).submit(*inputs, after=list(after), **parameters)

    def here(step: Any, *inputs: Any, after: Any = (), **parameters: Any) -> Any:
        return step(*inputs, **parameters)

    connect_steps(plan, in_a_pod if pods else here, shards, empty_registry)


def connect_steps(plan: dict[str, dict[str, Any]], call: Call, shards: int, empty_registry: bool) -> None:
    """Connect the steps; ``call`` and ``shards`` are those of :func:`pipelines.wiring.train_and_score`."""
    made = train_and_score(plan, call, shards)
    attention = call(explain, made.model, **plan["explain"])
    page = call(
        report, made.style_set, made.validation, made.division, made.aux, made.model, made.pictures, made.base_pictures, made.scores,
        attention, **plan["report"],
    )  # fmt: skip
    register_step = register.with_options(enable_cache=False) if empty_registry else register
    call(register_step, made.style_set, made.model, made.pictures, made.scores, page, **plan["register"])
