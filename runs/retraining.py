"""Scheduled retraining: trains each new or changed style set once, judges the model, and promotes it if it passes the gate."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core import notify
from components.core.config import RunConfig, builtin_config, parse_config, read_config
from components.core.errors import ConfigError, StorageError, StyleForgeError, error_json, known_error
from components.core.nested import deep_merge
from components.core.paths import state
from components.registry import promotion
from components.registry.gate import GateConfig, load_gate
from components.registry.tracking import Tracking, open_tracking, service_errors
from components.registry.versions import TAG_PREFIX, find_made_from, source_digest
from components.styledata.sets import Place, list_sets, read_settings
from orchestration.environment import prepare_environment
from orchestration.settings import check_settings
from runs.plan import effective_aux, plan_run, recorded
from runs.run import run_personalize, terminate_as_interrupt
from steps.evaluation.rescoring import tools

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_STYLE = "{style}"
_VERDICT = f"{TAG_PREFIX}retrain_verdict."
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetrainRequest:
    """Options of the command; ``webhook`` is the name of an environment variable.

    ``gate`` None means ``configs/gate.yaml``; ``settings`` None means the project's ``zenml.yaml``.
    """

    config: Path
    source: str
    overrides: tuple[str, ...] = ()
    alias: str = "champion"
    gate: Path | None = None
    promote: bool = True
    dry_run: bool = False
    webhook: str = notify.WEBHOOK_VARIABLE
    settings: Path | None = None


@dataclass
class SetResult:
    """The outcome for one set.

    ``status`` is ``promoted``, ``refused`` or ``undecided`` (by the gate), ``registered`` (no gate ran),
    ``unchanged``, ``failed``, ``stopped`` (not reached), or, in a dry run, ``new``,
    ``changed`` or ``unjudged``. ``version`` is the version made from the set, ``champion`` the version that held the alias before.
    """

    name: str
    status: str
    message: str = ""
    digest: str | None = None
    model: str = ""
    version: str | None = None
    champion: str | None = None
    seconds: float = 0.0
    error: Exception | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; the error becomes its message and parts."""
        return {**vars(self), "error": None if self.error is None else error_json(self.error)}


@dataclass
class Retraining:
    """The outcome for all sets."""

    source: str
    dry_run: bool
    sets: list[SetResult] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """1 if a set failed, else 0: a refusal by the gate is no reason to raise an alarm."""
        return 1 if any(item.status in ("failed", "stopped") for item in self.sets) else 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "status": "failed" if self.exit_code else "completed", "source": self.source, "dry_run": self.dry_run,
            "counts": dict(sorted(Counter(item.status for item in self.sets).items())), "sets": [item.as_dict() for item in self.sets],
        }  # fmt: skip


@dataclass(frozen=True)
class _Job:
    request: RetrainRequest
    settings: Mapping[str, Any]
    gate: GateConfig
    tracking: Tracking


def retrain(request: RetrainRequest) -> Retraining:
    """Check all style sets in turn, and train those from which no registered version was made.

    If a set fails, the others still run; if the disk is full, the remaining sets are skipped.

    Raises:
        InputError: the configuration, the gate, the source or a name is wrong; raised before anything ran.
        ServiceUnreachable: MLflow or the source does not answer at the start.
    """
    prepare_environment()
    notify.check_webhook(request.webhook)
    try:
        gate, settings, sample = check_request(request)
        if request.settings is not None:
            check_settings(request.settings)
        places = list_sets(request.source)
        job = _Job(request, settings, gate, open_tracking(sample.registry.tracking_uri))
    except StyleForgeError as error:
        _notify(request, f"retraining did not start: {error}")
        raise
    outcome = Retraining(request.source, request.dry_run)
    with terminate_as_interrupt():
        for place in places:
            if any(isinstance(item.error, StorageError) for item in outcome.sets):
                outcome.sets.append(SetResult(place.name, "stopped", "the disk is full"))
                continue
            result = _one(job, place)
            _logger.info("%s: %s%s", result.name, result.status, f" ({result.message})" if result.message else "")
            outcome.sets.append(result)
            if result.status in ("promoted", "refused", "undecided", "failed"):
                _notify(request, f"{result.name}: {result.status}: {result.message}")
    return outcome


def _notify(request: RetrainRequest, text: str) -> None:
    if not request.dry_run:
        notify.notify(f"StyleForge: {text}", variable=request.webhook)


def check_request(request: RetrainRequest) -> tuple[GateConfig, Mapping[str, Any], RunConfig]:
    """Return the gate, the settings for all sets as written in the file, and the configuration of a sample set; needs no service.

    Raises:
        InputError: the configuration, the gate or a name is wrong.
    """
    promotion.check_alias(request.alias)
    gate = load_gate(request.gate or builtin_config("gate"))
    _, settings = read_config(request.config)
    sample, other = (_configure(request, settings, Place(name, request.source), {}) for name in ("style-1", "style-2"))
    if sample.model_name == other.model_name:
        raise ConfigError(
            f"registry.model={sample.model_name}", "is the same name for all style sets", expected=f"a name with {_STYLE} in it",
            remedy="omit it for the default names",
        )  # fmt: skip
    return gate, settings, sample


def _configure(request: RetrainRequest, settings: Mapping[str, Any], place: Place, own: Mapping[str, Any]) -> RunConfig:
    """Configure the run of one set: CONFIG, then the set's own settings, then --set; name and source are always the set's."""
    named = {"style": {"name": place.name, "source": place.location}}
    where = f"{request.config} for {place.name}" if own else str(request.config)
    config = parse_config(deep_merge(deep_merge(settings, own), named), where=where, overrides=request.overrides)
    style = config.style.model_copy(update={"name": place.name, "source": place.location})
    model = config.registry.model
    registry = config.registry.model_copy(update={"model": model.replace(_STYLE, place.name) if model else None})
    return config.model_copy(update={"style": style, "registry": registry})


def _one(job: _Job, place: Place) -> SetResult:
    """Process one set up to its promotion; an error becomes the set's result, and only an interrupt is raised."""
    started = time.monotonic()
    try:
        result = _treat(job, place)
    except Exception as problem:
        _logger.debug("the set %s failed", place.name, exc_info=problem)
        error = known_error(problem)
        result = SetResult(place.name, "failed", str(error), error=error)
    result.seconds = round(time.monotonic() - started, 2)
    return result


def _treat(job: _Job, place: Place) -> SetResult:
    place.check()
    config = _configure(job.request, job.settings, place, read_settings(place))
    digest = _digest(config)
    result = SetResult(place.name, "unchanged", digest=digest, model=config.model_name)
    made = find_made_from(job.tracking, config.model_name, digest)
    if made is not None:
        verdict = made.tags.get(_VERDICT + job.request.alias)
        result.version = str(made.version)
        result.message = f"version {made.version} was made from it" + (f"; the gate said {verdict}" if verdict else "")
        # A version with a verdict is done; one without is judged now, because its promotion was interrupted.
        if verdict is not None or not job.request.promote:
            return result
    if job.request.dry_run:
        return _foretell(job, made, result)
    if made is None:
        ran = run_personalize(config, settings_file=job.request.settings)
        if ran.error is not None:
            raise ran.error
        result.version = str((ran.model or {})["version"])
    return _judge(job, result, str(result.version))


def _digest(config: RunConfig) -> str:
    """Return the digest of what the set's version would be made from; see :func:`components.registry.versions.source_digest`."""
    from components.styledata.manifest import scan_style

    plan = plan_run(config)
    with tempfile.TemporaryDirectory(dir=state("work")) as scratch:
        style_set = Path(scratch) / "style_set"
        scan_style(config.style, effective_aux(config), style_set, **recorded(config))
        # The configuration as it is registered, including the settings that depend on the base's family.
        return source_digest(style_set, RunConfig.model_validate(plan["register"]["config"]), plan["register"]["base_digest"])


def _foretell(job: _Job, made: ModelVersion | None, result: SetResult) -> SetResult:
    if made is not None:
        result.status, result.message = "unjudged", f"version {made.version} would be judged by the gate"
        return result
    with service_errors(job.tracking.uri):
        known = bool(job.tracking.versions(result.model))
    result.status, result.message = ("changed", "would be trained again") if known else ("new", "would be trained")
    return result


def _judge(job: _Job, result: SetResult, version: str) -> SetResult:
    """Promote the version if it passes the gate, and tag it with the verdict so that it is not judged again."""
    reference, alias = f"{result.model}/{version}", job.request.alias
    if not job.request.promote:
        result.status, result.message = "registered", f"version {version}; no gate ran"
        return result
    request = promotion.PromotionRequest(reference, job.gate, alias, reason="retrained: the gate let it pass")
    made = promotion.promote(job.tracking, request, tools(job.tracking))
    result.champion = made.champion
    if made.promoted:
        before = f", in place of version {made.champion}" if made.champion and made.champion != made.version else ""
        result.status, result.message = "promoted", f"version {made.version} of {made.name} is now @{alias}{before}"
    else:
        stays = f"version {made.champion} stays @{alias}" if made.champion else f"there is no @{alias} yet"
        result.status = "refused" if made.gate.verdict == "refuse" else "undecided"
        result.message = f"version {version} is registered; {stays}"
    with service_errors(job.tracking.uri):
        job.tracking.client.set_model_version_tag(result.model, version, _VERDICT + alias, made.gate.verdict)
    return result
