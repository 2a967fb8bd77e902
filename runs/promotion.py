"""What the commands about registered versions do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from components.core.config import builtin_config
from components.core.errors import InputError, ServiceUnreachable
from components.core.paths import read_json
from components.registry import history, promotion, retention
from components.registry.gate import load_gate
from components.registry.tracking import open_tracking, service_errors
from components.registry.versions import find_version, parse_reference
from orchestration.environment import prepare_environment
from orchestration.submit import submit_and_collect
from steps.evaluation.rescoring import tools


@dataclass(frozen=True)
class Request:
    """What the command is asked for; ``gate`` None means ``configs/gate.yaml``, ``on_stack`` as a ZenML pipeline on the active stack."""

    model: str
    alias: str = "champion"
    gate: Path | None = None
    dry_run: bool = False
    force: bool = False
    reason: str = ""
    on_stack: bool = False


def promote(request: Request) -> dict[str, Any]:
    """Judge a registered version and make it the champion if the gate lets it pass.

    Returns:
        What came of it, as :meth:`components.registry.promotion.Promotion.as_dict` gives it.

    Raises:
        InputError, GateRefused, ServiceUnreachable: see :func:`components.registry.promotion.promote`.
    """
    prepare_environment()
    gate = load_gate(request.gate or builtin_config("gate"))
    if Path(request.model).expanduser().is_dir():
        raise InputError(request.model, "is a folder", expected="a registered model: name, name@alias or name/version")
    parse_reference(request.model)
    wish = promotion.Wish(request.model, gate, request.alias, request.dry_run, request.force, request.reason)
    wish.check()
    tracking = open_tracking()
    if request.on_stack:
        return _promote_on_stack(wish)
    return promotion.promote(tracking, wish, tools(tracking)).as_dict()


def _promote_on_stack(wish: promotion.Wish) -> dict[str, Any]:
    """Run the pipeline on the active stack, and read what its last step wrote."""
    from orchestration.client import connect, output_folder, terminate_as_interrupt

    connect()
    from pipelines.promote import promote as pipeline
    from steps.registry.promote import VERDICT

    plain = {**{item.name: getattr(wish, item.name) for item in fields(wish)}, "gate": wish.gate.model_dump(mode="json")}
    with terminate_as_interrupt():
        run, error = submit_and_collect(pipeline, "promote", wish=plain)
    if error is not None:
        raise error
    if run is None:
        raise ServiceUnreachable("ZenML", "has no record of the run", remedy="look at the stack, then run the same command again")
    return dict(read_json(output_folder(run, "promote") / VERDICT))


def rollback(name: str, *, alias: str = "champion", to: str | None = None, reason: str = "") -> history.Entry:
    """Give an alias back. See :func:`components.registry.promotion.rollback`."""
    prepare_environment()
    promotion.check_alias(alias)
    return promotion.rollback(open_tracking(), name, alias=alias, to=to, reason=reason)


def read_history(name: str) -> list[history.Entry]:
    """The moves of a registered model's aliases, oldest first.

    Raises:
        InputError: there is no such model.
    """
    prepare_environment()
    tracking = open_tracking()
    with service_errors(tracking.uri):
        find_version(tracking, name)
        return history.read_history(tracking, name)


def prune(name: str | None, *, keep: int, delete: bool) -> list[retention.Unneeded]:
    """What nobody needs; deleted if asked for. See :mod:`components.registry.retention`."""
    prepare_environment()
    tracking = open_tracking()
    found = retention.find_unneeded(tracking, name, keep=keep)
    return retention.delete(tracking, found) if delete else found
