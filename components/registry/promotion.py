"""Promotion and rollback: a version is verified, judged by the gate, and made champion under a lock."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import GateRefused, InputError
from components.core.model_card import read_card
from components.core.paths import read_json
from components.registry import history
from components.registry.gate import GateConfig, GateResult, Replicates, judge
from components.registry.lock import LEASE, Ticket, lock
from components.registry.production import copy_to_production, production_name
from components.registry.tracking import Tracking, passing_over, service_errors
from components.registry.versions import EVALUATION, TAG_PREFIX, find_version, refusal, verified_evaluation, verified_folder
from components.registry.votes import votes_of

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """A registered version, its scores, and the folder with the files that they were computed from (``protocol.json`` and others)."""

    name: str
    version: str
    scores: dict[str, Any]
    evaluation: Path

    @property
    def reference(self) -> str:
        """``name/version``."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Tools:
    """Functions that the registry needs from the code that samples and scores.

    ``same`` says whether two evaluation folders were made in the same way; ``rescore`` samples and scores the second version as
    the first was, and returns the folder of the new evaluation; ``replicates`` returns the values on resamples, or None.
    """

    same: Callable[[Path, Path], bool]
    rescore: Callable[[Scored, Scored], Path]
    replicates: Callable[[Path], Replicates | None]


@dataclass(frozen=True)
class Promotion:
    """The outcome of a promotion: ``champion`` is the version that held the alias before, ``version`` the one meant to get it."""

    name: str
    version: str
    alias: str
    source: str
    gate: GateResult
    champion: str | None
    promoted: bool
    dry_run: bool
    forced: bool
    rescored: bool
    entry: history.Entry | None = None

    @property
    def passed(self) -> bool:
        """Whether the version has the alias now, or would get it."""
        return self.promoted or self.gate.verdict == "pass" or self.forced

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain JSON."""
        return {
            "status": "completed" if self.passed else "refused", "alias": self.alias,
            "promoted": self.promoted, "dry_run": self.dry_run, "forced": self.forced, "rescored": self.rescored,
            "model": {"name": self.name, "version": self.version, "alias": self.alias if self.promoted else None, "source": self.source},
            "champion": None if self.champion is None else {"name": self.name, "version": self.champion},
            "gate": asdict(self.gate), "history": None if self.entry is None else asdict(self.entry),
        }  # fmt: skip


@dataclass(frozen=True)
class PromotionRequest:
    """What to promote, to which alias, and by which gate; ``reason`` goes on record and is required with ``force``."""

    reference: str
    gate: GateConfig
    alias: str = "champion"
    dry_run: bool = False
    force: bool = False
    reason: str = ""

    def check(self) -> None:
        """Raise InputError if a promotion is forced without a reason, or the alias is invalid."""
        if self.force and not self.reason.strip():
            raise InputError("--force", "no reason is given", expected='--reason "why the gate is overruled"')
        check_alias(self.alias)


def promote(tracking: Tracking, request: PromotionRequest, tools: Tools, *, lease: float = LEASE) -> Promotion:
    """Judge a version and, if it passes the gate or the gate is overruled, move the alias to it.

    The champion is read again under the lock, and the version is judged against that one: of two simultaneous promotions, the second
    is compared with the first. A refusal by the gate is a result with ``passed`` false; GateRefused means that the version cannot be
    promoted at all.
    """
    request.check()
    with service_errors(tracking.uri):
        version = find_version(tracking, request.reference)
        folder = verified_folder(tracking, version)
        candidate = _scored(version, folder / EVALUATION)
        candidate.scores["rights"] = read_card(folder).get("rights")
        attempt = _Attempt(tracking, request, candidate, production_name(candidate.name), tools, lease)
        result = attempt.judge()
        while result.passed and not request.dry_run and not result.promoted:
            if not result.version:
                result = replace(result, version=copy_to_production(tracking, version, folder, result.name))
            result = attempt.move(result)
        return result


@dataclass(frozen=True)
class _Attempt:
    """One attempt to give an alias of the model ``name`` to a candidate."""

    tracking: Tracking
    request: PromotionRequest
    candidate: Scored
    name: str
    tools: Tools
    lease: float

    def judge(self, version: str = "") -> Promotion:
        """Judge the candidate against the current champion, which is scored again if it was scored in another way."""
        champion, rescored = read_champion(self.tracking, self.name, self.request.alias), False
        if champion is not None and champion.reference != self.candidate.reference and not self._comparable(champion):
            _logger.info("%s was scored differently; sampling and scoring it as %s was", champion.reference, self.candidate.reference)
            place = self.tools.rescore(self.candidate, champion)
            champion, rescored = replace(champion, scores=read_json(place / "scores.json"), evaluation=place), True
        return self._verdict(champion, version, rescored)

    def move(self, result: Promotion) -> Promotion:
        """Move the alias under the lock; if the champion has changed meanwhile, judge against the new one first.

        Returns the new judgement without moving the alias if it does not pass, or if the new champion has to be scored again.
        """
        if result.version == result.champion:
            return replace(result, promoted=True)
        with lock(self.tracking, self.name, lease=self.lease) as ticket:
            champion = read_champion(self.tracking, self.name, self.request.alias)
            unchanged = (champion.version if champion else None) == result.champion
            if unchanged:
                return self._move(result, ticket)
            if champion is None or self._comparable(champion):
                result = self._verdict(champion, result.version)
                return self._move(result, ticket) if result.passed and result.version != result.champion else result
        # Scoring the new champion takes long, so the lock is released first.
        return self.judge(result.version)

    def _move(self, result: Promotion, ticket: Ticket) -> Promotion:
        ticket.check()
        reason = self.request.reason or ("the gate was overruled" if result.forced else "the gate let it pass")
        source = self.candidate.reference if self.candidate.name != self.name else None
        entry = move_alias(
            self.tracking, self.name, "promote", result.alias, result.version, result.champion, reason=reason, forced=result.forced,
            gate=result.gate.verdict, source=source,
        )  # fmt: skip
        return replace(result, promoted=True, entry=entry)

    def _comparable(self, champion: Scored) -> bool:
        return self.tools.same(self.candidate.evaluation, champion.evaluation)

    def _verdict(self, champion: Scored | None, version: str, rescored: bool = False) -> Promotion:
        paired = None
        if champion is not None:
            mine, theirs = self.tools.replicates(self.candidate.evaluation), self.tools.replicates(champion.evaluation)
            paired = (mine, theirs) if mine is not None and theirs is not None else None
        gate = judge(self.request.gate, self.candidate.scores, champion.scores.get("style") if champion else None, paired)
        return Promotion(
            self.name, version or (self.candidate.version if self.name == self.candidate.name else ""), self.request.alias,
            self.candidate.reference, gate, champion.version if champion else None, False, self.request.dry_run,
            self.request.force and gate.verdict != "pass", rescored,
        )  # fmt: skip


def move_alias(
    tracking: Tracking, name: str, action: history.Action, alias: str, version: str, before: str | None, *, reason: str, **facts: Any
) -> history.Entry:
    """Write a history entry, move the alias in a single database write, and mark the entry done; call it under the lock."""
    who, ci = history.author()
    entry = history.begin(
        tracking, name, action=action, alias=alias, version=version, before=before, who=who, when=history.now(), reason=reason, ci=ci,
        **facts,
    )  # fmt: skip
    tracking.client.set_registered_model_alias(name, alias, version)
    done = history.finish(tracking, name, entry)
    # Recorded on the version too, where MLflow's own pages show it.
    shown = {"by": who, "at": entry.when, "because": reason, "over": before or "", "ci": ci or ""}
    for key, value in shown.items():
        tracking.client.set_model_version_tag(name, version, f"{TAG_PREFIX}promoted_{key}", value)
    return done


def rollback(tracking: Tracking, name: str, *, alias: str = "champion", to: str | None = None, reason: str = "") -> history.Entry:
    """Move the alias back to the version that held it before, or to version ``to``.

    GateRefused if the history names no earlier version, the version holds the alias already, or its files are gone or changed;
    InputError if the model or version does not exist.
    """
    with service_errors(tracking.uri):
        find_version(tracking, name)
        with lock(tracking, name) as ticket:
            holder = alias_holder(tracking, name, alias)
            target = to or history.version_before(history.read_history(tracking, name), alias)
            if target is None:
                raise GateRefused(f"{name}@{alias}", "its history has no earlier version", remedy="name one with --to VERSION")
            if target == holder:
                raise GateRefused(f"{name}@{alias}", f"version {target} already has it")
            version = find_version(tracking, f"{name}/{target}")
            verified_folder(tracking, version)
            ticket.check()
            return move_alias(tracking, name, "rollback", alias, target, holder, reason=reason or "rolled back")


def read_champion(tracking: Tracking, name: str, alias: str) -> Scored | None:
    """The version that holds the alias; None if model or alias does not exist yet, GateRefused if its scores are missing or changed."""
    holder = alias_holder(tracking, name, alias)
    if holder is None:
        return None
    version = tracking.client.get_model_version(name, holder)
    try:
        return _scored(version, verified_evaluation(tracking, version))
    except GateRefused as error:
        raise GateRefused(
            f"{name}@{alias}", f"the champion cannot be compared: {error.where}: {error.problem}",
            remedy=f"give the alias to a version that was scored (`styleforge rollback {name} --to VERSION`), or remove it in MLflow",
        ) from error  # fmt: skip


def check_alias(alias: str) -> None:
    """Raise InputError unless MLflow accepts ``alias`` as an alias."""
    if not re.fullmatch(r"[\w-]+", alias) or re.fullmatch(r"[vV]\d+|latest", alias):
        raise InputError(f"--to {alias}", "is not a valid alias", expected="letters, digits, - and _; not `latest`, nor `v` with a number")


def alias_holder(tracking: Tracking, name: str, alias: str) -> str | None:
    """Number of the version that holds the alias; None if there is none."""
    aliases: Mapping[str, Any] = {}
    with passing_over("RESOURCE_DOES_NOT_EXIST"):
        aliases = tracking.client.get_registered_model(name).aliases
    return str(aliases[alias]) if alias in aliases else None


def _scored(version: ModelVersion, evaluation: Path) -> Scored:
    path = evaluation / "scores.json"
    if not path.is_file():
        raise refusal(version, "has no scores", "a version that `styleforge run` scored and registered", "run its configuration again")
    scores = {**read_json(path), "votes": votes_of(version)}
    return Scored(version.name, str(version.version), scores, evaluation)
