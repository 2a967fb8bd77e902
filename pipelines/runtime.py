"""Runs ``personalize``: prepares ZenML, starts the pipeline, and tells in plain data what came of it."""

from __future__ import annotations

import logging
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from components.config import RunConfig
from components.errors import InputError, ServiceUnreachable
from components.paths import read_json, state, write_json
from components.registry.tracking import is_new, open_tracking, tracking_uri
from pipelines.environment import prepare_environment, set_source_root
from pipelines.lightweight import lightweight_zenml
from pipelines.outcome import RunResult, known_error
from pipelines.plan import Plan, plan_run
from pipelines.remote import error_of
from pipelines.settings import check_settings, default_settings_file, settings_for
from pipelines.sources import within_reach

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

_logger = logging.getLogger(__name__)
LOCAL = "orchestrator.local"
"""The flavor of the orchestrator that runs every step in this process."""

_JOINED = {"sample_bank": "join_pictures", "score": "score_joined"}


def run_personalize(
    config: RunConfig, *, use_cache: bool = True, settings_file: Path | None = None, shards: int = 1, verbose: bool = False
) -> RunResult:
    """Run the pipeline on the active ZenML stack and wait for its end.

    Args:
        config: the run.
        use_cache: False re-runs every step.
        settings_file: a ``zenml.yaml``; default: the project's own.
        shards: into how many shares drawing and feature extraction are divided, each in a pod where steps run in pods.
        verbose: let ZenML speak.

    Returns:
        The result; an error of a step is in it, not raised.

    Raises:
        InputError, ServiceUnreachable: found before anything ran.
        KeyboardInterrupt: the user stopped the run; what can be resumed is kept.
    """
    started = time.monotonic()
    prepare_environment(verbose=verbose)
    # In the order of what they cost: the settings' models are ZenML's own, which takes seconds to import.
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
    """Whether the registration is one of the cache's, and its version was deleted since."""
    if result.error is not None or "register" not in result.cached or not result.model:
        return False
    from components.registry.versions import is_registered

    return not is_registered(open_tracking(config.registry.tracking_uri), result.model["name"], str(result.model["version"]))


def _run(config: RunConfig, plan: Plan, use_cache: bool, settings: Path | None, shards: int, *, empty_registry: bool) -> RunResult:
    from steps import workspace

    connect()
    from pipelines.personalize import personalize, personalize_sharded
    from pipelines.preflight import check_access

    flavors = stack_flavors()
    if LOCAL not in flavors:
        check_access()
        plan = within_reach(plan)
    workspace.sweep()
    name = f"personalize-{config.style.name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
    options: dict[str, Any] = {"run_name": name}
    if settings is not None:
        options["config_path"] = str(settings_for(settings, flavors))
    if not use_cache:
        options["enable_cache"] = False
    result = RunResult(status="completed")
    try:
        with lightweight_zenml():
            if shards == 1:
                personalize.with_options(**options)(plan=plan, empty_registry=empty_registry)
            else:
                pods = LOCAL not in flavors
                personalize_sharded.with_options(**options)(plan=plan, shards=shards, pods=pods, empty_registry=empty_registry)
    except Exception as problem:
        _logger.debug("the run failed", exc_info=problem)
        result.error = known_error(problem)
    finally:
        run = find_run(name)
        # What a stopped or failed step had done so far is what makes the next try short.
        workspace.release([step for step, record in run.steps.items() if record.status.value == "completed"] if run else [])
    if LOCAL not in flavors:
        result.error = _remote_error(run, result.error)
    if result.error is not None:
        result.status = getattr(result.error, "status", "failed")
    if run is not None:
        _gather(run, result)
    return result


def _remote_error(run: PipelineRunResponse | None, problem: Exception | None) -> Exception | None:
    """The error of a run in pods, which may have failed without ZenML saying so here."""
    if problem is None and run is not None and run.status.is_successful:
        return None
    return error_of(run, problem or RuntimeError(f"the run is {run.status.value}" if run else "ZenML has no record of the run"))


def connect() -> None:
    """Open ZenML's store, whose first use creates it."""
    set_source_root()
    from zenml.client import Client

    try:
        _ = Client().active_stack_model
    except Exception as error:
        said = f"{type(error).__name__} {error}"
        if any(word in said for word in ("CredentialsNotValid", "Authentication error", "AuthorizationException")):
            raise InputError(
                "ZenML server",
                "it refuses the credentials",
                expected="a valid ZENML_STORE_API_KEY",
                remedy="give the key of an active account",
            ) from error
        if any(word in said for word in ("Connection", "Max retries", "timed out")):
            raise ServiceUnreachable(
                "ZenML server", "no answer", expected="a running server", remedy="start it, or unset ZENML_STORE_URL to work locally"
            ) from error
        if (known := known_error(error)) is not error:
            raise known from error
        raise


def stack_flavors() -> set[str]:
    """The components of the active stack as ``type.flavor``, such as ``orchestrator.local``."""
    from zenml.client import Client

    return {f"{kind.value}.{part.flavor_name}" for kind, parts in Client().active_stack_model.components.items() for part in parts}


def find_run(name: str) -> PipelineRunResponse | None:
    """The run of that name; None if ZenML has no record of it."""
    from zenml.client import Client

    try:
        return Client().get_pipeline_run(name, allow_name_prefix_match=False)
    except KeyError:
        return None  # It failed before ZenML had a record of it.


def _gather(run: PipelineRunResponse, result: RunResult) -> None:
    result.run_id = str(run.id)
    _gather_steps(run, result)
    if result.error is None:
        _gather_outputs(run, result)


def _gather_steps(run: PipelineRunResponse, result: RunResult) -> None:
    for name, step in run.steps.items():
        if step.status.value == "cached":
            result.cached.append(name)
            result.seconds[name] = 0.0
        elif step.start_time and step.end_time:
            result.seconds[name] = round((step.end_time - step.start_time).total_seconds(), 2)


def _gather_outputs(run: PipelineRunResponse, result: RunResult) -> None:
    from steps.artifacts import link_or_copy

    scores = read_json(output_folder(run, "score") / "scores.json")
    result.scores, result.base_scores = scores["style"], scores["base"]
    result.drift, result.context = scores.get("drift"), scores.get("context") or {}
    result.model = read_json(output_folder(run, "register") / "registration.json")
    page = state("runs", str(run.id)) / "report.html"
    page.unlink(missing_ok=True)
    link_or_copy(output_folder(run, "report") / "report.html", page)
    result.report = str(page)


def output_folder(run: PipelineRunResponse, step: str) -> Path:
    """The folder that a step of a finished run made, or the step that puts its shares together."""
    (artifacts,) = (run.steps.get(step) or run.steps[_JOINED[step]]).outputs.values()
    return Path(artifacts[0].load().path)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: cleanly."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # Not the main thread: signals are somebody else's.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
