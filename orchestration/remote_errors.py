"""Rebuilds the errors of steps that ran elsewhere from what ZenML's server recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.core import errors
from components.core.errors import StyleForgeError

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse, StepRunResponse

_WAITING = ("InvalidImageName", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull")


def error_of(run: PipelineRunResponse | None, problem: Exception) -> Exception:
    """Return what ended a run in pods, given what ZenML raised here: a step's error, or what is known about a pod that reported none."""
    if isinstance(problem, StyleForgeError):
        return problem
    failed = [step for step in run.steps.values() if step.status.value == "failed"] if run else []
    for step in failed:
        if (known := _raised(step)) is not None:
            return known
    reason = " ".join(str(problem).split())
    remedy = "`styleforge doctor --stack NAME` looks for the cause, and `kubectl get events` in the stack's namespace shows what happened"
    names = sorted(step.name for step in failed) or _next_steps(run)
    if names and not any(word in reason for word in _WAITING):
        steps, lost = ("step", "its pod was lost") if len(names) == 1 else ("steps", "their pods were lost")
        return StyleForgeError(f"{steps} {', '.join(names)}", f"{lost}, or found no node in time ({reason})", remedy=remedy)
    if any(word in reason for word in _WAITING):
        image = _image(run)
        return StyleForgeError(
            f"image {image}", f"the node cannot pull it ({reason})", expected="an image that it has or can pull", remedy=remedy
        )
    return StyleForgeError("run in pods", f"it failed before any step started, or without a message ({reason})", remedy=remedy)


def _next_steps(run: PipelineRunResponse | None) -> list[str]:
    """Return the unfinished steps of a failed run whose upstream steps had all succeeded."""
    if run is None or run.status.value != "failed" or run.snapshot is None:
        return []
    done = {name for name, step in run.steps.items() if step.status.is_successful}
    steps = run.snapshot.step_configurations
    return sorted(name for name, step in steps.items() if name not in done and set(step.spec.upstream_steps) <= done)


def _raised(step: StepRunResponse) -> Exception | None:
    """Return the error that a step raised, as a StyleForgeError of its own class if it was one; None if none was recorded."""
    said = step.exception_info
    if said is None or not said.message:
        return None
    module, _, name = (said.source or "").rpartition(".")
    kind = getattr(errors, name, None) if module == errors.__name__ else None
    if not (isinstance(kind, type) and issubclass(kind, StyleForgeError)):
        return StyleForgeError(f"step {step.name}", f"{name or 'an error'}: {said.message}", remedy="see the pod's log")
    where, _, rest = said.message.partition(": ")
    return kind(where, rest)


def _image(run: PipelineRunResponse | None) -> str:
    settings = run.config.settings.get("docker") if run else None
    return str(getattr(settings, "parent_image", None) or "of the pods")
