"""``styleforge doctor``: this machine, or the cluster that a stack runs on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import Settings, answer, guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from components.core.checks import Check

UNREACHABLE = 4


@guarded
def doctor(
    stack: Annotated[
        str | None, typer.Option("--stack", metavar="NAME", help="Check the cluster of this ZenML stack instead of this machine.")
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", metavar="NAME", help="Namespace; default: the orchestrator's.")] = None,
    settings: Settings = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="NAME", help="Container image to try; default: the one in the settings.")
    ] = None,
    assume_pool: Annotated[
        list[str] | None,
        typer.Option(
            "--assume-pool",
            metavar="YAML",
            help="Labels, taints and allocatable resources of a node pool that scales up from zero; repeatable.",
        ),
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=5, help="Seconds to wait for the probe pod, including the image download.")] = 40.0,
) -> None:
    """Check this machine, or with --stack a cluster: what is there, what is missing, and what to do about it."""
    if stack is None:
        _only_with_stack(namespace=namespace, settings=settings, image=image, assume_pool=assume_pool)
        from orchestration.doctor import examine

        _end(examine())
    else:
        from components.cluster.nodes import parse_pool

        pools = tuple(parse_pool(_text_or_file(text)) for text in assume_pool or ())
        _cluster(stack, wait, namespace=namespace, file=settings, image=image, pools=pools)


def _only_with_stack(**options: object) -> None:
    from components.core.errors import InputError

    for name, value in options.items():
        if value:
            remedy = "name a stack; `zenml stack list` shows them"
            raise InputError(f"--{name.replace('_', '-')}", "it needs --stack", remedy=remedy)


def _text_or_file(text: str) -> str:
    path = Path(text)
    return path.read_text(encoding="utf-8") if text.endswith((".yaml", ".yml")) and path.is_file() else text


def _cluster(stack: str, seconds: float, **options: Any) -> None:
    from components.cluster.preflight import examine_cluster
    from components.core.checks import Check
    from orchestration.client import terminate_as_interrupt
    from orchestration.preflight import load_target

    target = load_target(stack, **options)
    if isinstance(target, Check):
        _end([target], stack=stack)
        return
    with terminate_as_interrupt():
        report = examine_cluster(target, seconds=seconds)
    _end(report.checks, UNREACHABLE if report.unreachable else 1, stack=stack, namespace=target.namespace)


def _end(checks: Sequence[Check], code: int = 1, **about: str) -> None:
    """Print the checks, and leave with ``code`` if one that is needed failed."""
    from cli.printing.scores import print_checks

    print_checks(checks)
    healthy = all(check.ok for check in checks if check.needed)
    answer({"status": "completed" if healthy else "failed", **about, "checks": [vars(check) for check in checks]})
    if not healthy:
        raise typer.Exit(code)
