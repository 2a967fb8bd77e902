"""Runs ``personalize``: prepares ZenML, starts the pipeline and returns the outcome as plain data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.config import RunConfig
from components.core.gpus import named_gpu, usual_gpu
from components.core.paths import link_or_copy, read_json, state, write_json
from components.diffusion.training.fit import check_machine
from components.registry.tracking import is_new, tracking_uri
from orchestration.client import LOCAL, connect, output_folder, stack_flavors, terminate_as_interrupt
from orchestration.environment import prepare_environment
from orchestration.outcome import RunResult
from orchestration.remote_errors import error_of
from orchestration.settings import check_settings, default_settings_file
from orchestration.submit import submit_and_collect
from runs.memory import check_fits
from runs.plan import Plan, plan_run
from steps.io.uploads import within_reach

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse


def run_personalize(config: RunConfig, *, use_cache: bool = True, settings_file: Path | None = None, shards: int = 1) -> RunResult:
    """Run the pipeline on the active ZenML stack and wait for it to finish; a step's error is returned in the result, not raised.

    ``settings_file`` defaults to the project's own ``zenml.yaml``; sampling and feature extraction are divided into ``shards``, each
    in its own pod if the stack runs steps in pods.

    Raises:
        InputError, ServiceUnreachable: a problem was found before anything ran.
        KeyboardInterrupt: the user stopped the run; resumable work is kept.
    """
    started = time.monotonic()
    prepare_environment()
    # Cheapest check first: checking the settings imports ZenML's models, which takes seconds.
    plan = plan_run(config)
    settings = settings_file or default_settings_file()
    if settings is not None:
        check_settings(settings)
    with terminate_as_interrupt():
        result = _run(config, plan, use_cache, settings, shards, empty_registry=is_new(tracking_uri(config.registry.tracking_uri)))
        if _names_a_version_that_is_gone(config, result):
            result = _run(config, plan, use_cache, settings, shards, empty_registry=True)
    result.total_seconds = round(time.monotonic() - started, 2)
    if result.run_id:
        write_json(state("runs", result.run_id) / "result.json", result.as_dict())
    return result


def _names_a_version_that_is_gone(config: RunConfig, result: RunResult) -> bool:
    """Whether the registration came from the cache and its model version has since been deleted."""
    if result.error is not None or "register" not in result.cached or not result.model:
        return False
    from components.registry.versions import is_registered

    return not is_registered(tracking_uri(config.registry.tracking_uri), result.model["name"], str(result.model["version"]))


def _run(config: RunConfig, plan: Plan, use_cache: bool, settings: Path | None, shards: int, *, empty_registry: bool) -> RunResult:
    from steps.io import workspace

    connect()
    from orchestration.preflight import check_access, training_gpu
    from pipelines.personalize import personalize, personalize_sharded

    flavors = stack_flavors()
    if LOCAL not in flavors:
        check_access()
        check_fits(config, named_gpu() or training_gpu(settings))
        plan = within_reach(plan)
    else:
        check_machine(config)
        check_fits(config, usual_gpu())
    workspace.sweep()
    remote = LOCAL not in flavors
    pipeline, sharding = (personalize, {}) if shards == 1 else (personalize_sharded, {"shards": shards, "pods": remote})
    run, error = submit_and_collect(
        pipeline, f"personalize-{config.style.name}", settings=settings, use_cache=use_cache, discard_finished=True,
        plan=plan, empty_registry=empty_registry, **sharding,
    )  # fmt: skip
    result = RunResult(status="completed", error=_remote_error(run, error) if remote else error)
    if result.error is not None:
        result.status = getattr(result.error, "status", "failed")
    if run is not None:
        result.run_id = str(run.id)
        _gather_steps(run, result)
        if result.error is None:
            _gather_outputs(run, result)
    return result


def _remote_error(run: PipelineRunResponse | None, problem: Exception | None) -> Exception | None:
    """Return the error of a run in pods, which may have failed without ZenML raising anything here."""
    if problem is None and run is not None and run.status.is_successful:
        return None
    return error_of(run, problem or RuntimeError(f"the run is {run.status.value}" if run else "ZenML has no record of the run"))


def _gather_steps(run: PipelineRunResponse, result: RunResult) -> None:
    for name, step in run.steps.items():
        if step.status.value == "cached":
            result.cached.append(name)
            result.seconds[name] = 0.0
        elif step.start_time and step.end_time:
            result.seconds[name] = round((step.end_time - step.start_time).total_seconds(), 2)


def _gather_outputs(run: PipelineRunResponse, result: RunResult) -> None:
    scores = read_json(output_folder(run, "score") / "scores.json")
    result.scores, result.base_scores = scores["style"], scores["base"]
    result.drift, result.context = scores.get("drift"), scores.get("context") or {}
    if "examine" in run.steps:
        from components.evaluation.examination import read_examination, what_limits

        if found := read_examination(output_folder(run, "examine")):
            result.examination = {"headline": found["headline"], "limit": what_limits(found, scores)}
    result.model = read_json(output_folder(run, "register") / "registration.json")
    page = state("runs", str(run.id)) / "report.html"
    page.unlink(missing_ok=True)
    link_or_copy(output_folder(run, "report") / "report.html", page)
    result.report = str(page)
