"""Implements the commands for registered versions: promotion, rollback, history and pruning."""

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


def promote(model: str, gate: Path | None = None, *, on_stack: bool = False, **options: Any) -> dict[str, Any]:
    """Judge a registered version and make it the champion if the gate lets it pass.

    ``gate`` defaults to ``configs/gate.yaml``; ``on_stack`` runs it as a ZenML pipeline on the active stack; ``options`` are other fields
    of :class:`components.registry.promotion.PromotionRequest`, whose module documents the result and the errors.
    """
    prepare_environment()
    if Path(model).expanduser().is_dir():
        raise InputError(model, "is a folder", expected="a registered model: name, name@alias or name/version")
    parse_reference(model)
    request = promotion.PromotionRequest(model, load_gate(gate or builtin_config("gate")), **options)
    request.check()
    tracking = open_tracking()
    return _promote_on_stack(request) if on_stack else promotion.promote(tracking, request, tools(tracking)).as_dict()


def _promote_on_stack(request: promotion.PromotionRequest) -> dict[str, Any]:
    """Run the promotion pipeline on the active stack and return the output of its last step."""
    from orchestration.client import connect, output_folder, terminate_as_interrupt

    connect()
    from pipelines.promote import promote as pipeline
    from steps.registry.promote import VERDICT

    plain = {**vars(request), "gate": request.gate.model_dump(mode="json")}
    with terminate_as_interrupt():
        run, error = submit_and_collect(pipeline, "promote", request=plain)
    if error is not None:
        raise error
    if run is None:
        raise ServiceUnreachable("ZenML", "has no record of the run", remedy="check the stack, then run the same command again")
    return dict(read_json(output_folder(run, "promote") / VERDICT))


def rollback(name: str, *, alias: str = "champion", to: str | None = None, reason: str = "") -> history.Entry:
    """Move an alias back to an earlier version; see :func:`components.registry.promotion.rollback`."""
    prepare_environment()
    promotion.check_alias(alias)
    return promotion.rollback(open_tracking(), name, alias=alias, to=to, reason=reason)


def read_history(name: str) -> list[history.Entry]:
    """Return the moves of a registered model's aliases, oldest first."""
    prepare_environment()
    tracking = open_tracking()
    with service_errors(tracking.uri):
        find_version(tracking, name)
        return history.read_history(tracking, name)


def prune(name: str | None, *, keep: int, delete: bool) -> list[retention.Unneeded]:
    """Find what is no longer needed and, with ``delete``, remove it; see :mod:`components.registry.retention`."""
    prepare_environment()
    tracking = open_tracking()
    found = retention.find_unneeded(tracking, name, keep=keep)
    return retention.delete(tracking, found) if delete else found
