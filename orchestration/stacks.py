"""Creates and updates ZenML's stacks to match a definition, and removes them. What already matches is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from components.cluster.stacks import DEFAULT, StackDefinition, load_stack
from components.core.errors import GateRefused, InputError
from orchestration.client import connect
from orchestration.stack_parts import Part, check_part, obstacles

if TYPE_CHECKING:
    from uuid import UUID

    from zenml.client import Client
    from zenml.enums import StackComponentType
    from zenml.models import ComponentResponse, StackResponse

LABELS = {"managed-by": "styleforge"}
_TRIES = 5


@dataclass(frozen=True)
class Change:
    """What was done to a part of a stack, or would be done in a dry run. ``fields`` are the configuration fields that differ."""

    type: str
    name: str
    flavor: str
    action: str
    fields: tuple[str, ...] = ()


@dataclass
class Applied:
    """The result of applying a definition. ``action`` is for the stack itself: created, updated or unchanged."""

    stack: str
    action: str = "unchanged"
    components: list[Change] = field(default_factory=list)
    active: bool = False
    activated: bool = False
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was written, or would be in a dry run."""
        return self.activated or self.action != "unchanged" or any(item.action != "unchanged" for item in self.components)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"status": "completed", "changed": self.changed, **asdict(self)}


def apply_stack(name_or_file: str, overrides: Sequence[str] = (), *, activate: bool = False, dry_run: bool = False) -> Applied:
    """Create the stack or update it to match the definition; ``activate`` also makes it the active stack.

    Raises ConfigError for an invalid definition and GateRefused for a part that ZenML has with another flavor, both before anything is
    changed; InputError for a missing definition or refused credentials; ServiceUnreachable if ZenML's server does not answer.
    """
    definition = load_stack(name_or_file, overrides)
    # If two processes apply at once, the database accepts one; the other, on retrying, finds what it wanted to create.
    tries = Retrying(
        retry=retry_if_exception(_lost_a_race), wait=wait_random_exponential(0.05, max=1), stop=stop_after_attempt(_TRIES), reraise=True
    )
    return tries(_apply, connect(), definition, name_or_file, activate, dry_run)


def _lost_a_race(error: BaseException) -> bool:
    words = (
        "EntityExistsError", "IntegrityError", "StaleDataError", "database is locked", "Deadlock", "already exists", "UNIQUE constraint",
    )  # fmt: skip
    return any(word in f"{type(error).__name__} {error}" for word in words)


def _apply(client: Client, definition: StackDefinition, where: str, activate: bool, dry_run: bool) -> Applied:
    parts = [check_part(client, where, kind, name, component) for kind, name, component in definition.parts()]
    result = Applied(definition.name, dry_run=dry_run, warnings=obstacles(client, parts))
    stack = find_stack(client, definition.name)
    ids = {}
    for part in parts:
        change = _change(part)
        result.components.append(change)
        if not dry_run:
            ids[part.kind] = _write_part(client, part, change)
    result.action = _stack_action(stack, parts)
    if not dry_run:
        stack = _write_stack(client, definition.name, stack, ids, result.action)
    active = client.active_stack_model
    result.active = stack is not None and active.id == stack.id
    result.activated = activate and not result.active
    if result.activated and not dry_run and stack is not None:
        client.activate_stack(stack.id)
        result.active = True
    return result


def _change(part: Part) -> Change:
    fields = part.differing()
    action = "created" if part.there is None else "updated" if fields else "unchanged"
    return Change(part.kind.value, part.name, part.flavor, action, fields if action == "updated" else ())


def _write_part(client: Client, part: Part, change: Change) -> UUID:
    """Create or update the part if necessary, and return its id."""
    if part.there is None:
        return client.create_stack_component(part.name, part.flavor, part.kind, part.configuration, labels=LABELS).id
    if change.action == "updated":
        # ZenML merges the new configuration into the stored one; None removes a key.
        gone = dict.fromkeys(part.there.configuration.keys() - part.configuration.keys())
        client.update_stack_component(part.there.id, part.kind, configuration={**part.configuration, **gone})
    return part.there.id


def _stack_action(stack: StackResponse | None, parts: Sequence[Part]) -> str:
    if stack is None:
        return "created"
    has = {kind: [item.id for item in items] for kind, items in stack.components.items() if items}
    wants = {part.kind: [part.there.id] if part.there else [] for part in parts}
    return "unchanged" if has == wants else "updated"


def _write_stack(
    client: Client, name: str, stack: StackResponse | None, ids: Mapping[StackComponentType, UUID], action: str
) -> StackResponse:
    wanted = {kind: [part] for kind, part in ids.items()}
    if stack is None:
        return client.create_stack(name, wanted, labels=LABELS)
    if action == "updated":
        gone: dict[StackComponentType, list[UUID]] = {kind: [] for kind in stack.components if kind not in ids}
        return client.update_stack(stack.id, component_updates={**wanted, **gone})
    return stack


def find_stack(client: Client, name: str) -> StackResponse | None:
    """Return ZenML's stack of exactly that name, or None."""
    return next(iter(client.list_stacks(name=name, size=1, hydrate=True)), None)


def list_stacks() -> list[dict[str, Any]]:
    """Return ZenML's stacks by name, each with its parts and whether it is active; raises the server errors of :func:`apply_stack`."""
    client = connect()
    active = client.active_stack_model.id
    stacks = sorted(client.list_stacks(size=1000, hydrate=True), key=lambda stack: stack.name)
    return [{"name": stack.name, "active": stack.id == active, "components": _parts_of(stack)} for stack in stacks]


def _parts_of(stack: StackResponse) -> list[dict[str, str]]:
    parts = [(kind.value, item) for kind, items in stack.components.items() for item in items]
    return [{"type": kind, "name": item.name, "flavor": item.flavor_name} for kind, item in sorted(parts, key=lambda part: part[0])]


def remove_stack(name: str) -> dict[str, Any]:
    """Remove a stack and its unneeded parts; return what was removed, and what was kept with the reason.

    A part is kept if another stack uses it, if it is an artifact store that holds artifacts, or if it is ZenML's own. Raises
    InputError for an unknown stack, and GateRefused for the active stack and ZenML's own.
    """
    client = connect()
    stack = find_stack(client, name)
    if stack is None:
        known = [item.name for item in client.list_stacks(size=1000)]
        raise InputError(name, "ZenML knows no such stack", expected=f"one of {', '.join(sorted(known))}")
    if name == DEFAULT:
        raise GateRefused(name, "is ZenML's own stack, which cannot be removed")
    if stack.id == client.active_stack_model.id:
        raise GateRefused(
            name, "is the active stack", remedy="activate another one first, for example `styleforge stack apply local --activate`"
        )
    parts = [(kind, item) for kind, items in stack.components.items() for item in items]
    client.delete_stack(stack.id)
    removed, kept = [], []
    for kind, item in parts:
        described = {"type": kind.value, "name": item.name, "flavor": item.flavor_name}
        if reason := _needed(client, item):
            kept.append({**described, "reason": reason})
        else:
            client.delete_stack_component(item.id, kind)
            removed.append(described)
    return {"status": "completed", "stack": name, "removed": removed, "kept": kept}


def _needed(client: Client, component: ComponentResponse) -> str:
    """Return why a part must be kept; empty if it need not be."""
    if component.name == DEFAULT:
        return "is ZenML's own"
    users = [stack.name for stack in client.list_stacks(component_id=component.id, size=100)]
    if users:
        return f"is used by {', '.join(sorted(users))}"
    # Without its store, ZenML could no longer load these artifacts, and the runs that made them would be useless as a cache.
    if component.type.value == "artifact_store" and client.list_artifact_versions(artifact_store_id=component.id, size=1).total:
        return "holds artifacts of runs"
    return ""
