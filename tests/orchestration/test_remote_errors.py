from types import SimpleNamespace as Made
from typing import Any

import pytest

from components.core.errors import GateRefused, InputError, StyleForgeError
from orchestration.remote_errors import error_of


def _run(**steps: Any) -> Any:
    """What is read of ZenML's record of a run; a step after the first waits for the one before it."""
    settings = {"docker": Made(parent_image="forge:1")}
    names = list(steps)
    planned = {name: Made(spec=Made(upstream_steps=names[max(0, index - 1) : index])) for index, name in enumerate(names)}
    return Made(
        steps={name: Made(name=name, **step) for name, step in steps.items() if step}, config=Made(settings=settings),
        status=Made(value="failed"), snapshot=Made(step_configurations=planned),
    )  # fmt: skip


def _step(status: str, source: str | None = None, message: str | None = None) -> dict[str, Any]:
    done = Made(value=status, is_successful=status in ("completed", "cached"))
    return {"status": done, "exception_info": Made(source=source, message=message) if source else None}


@pytest.mark.parametrize("kind", [GateRefused, InputError, StyleForgeError])
def test_an_error_of_ours_keeps_kind_exit_code_and_message(kind: type[StyleForgeError]) -> None:
    original = kind("a.png", "is broken", expected="a picture", remedy="fix it")
    run = _run(scan=_step("completed"), validate=_step("failed", f"components.core.errors.{kind.__name__}", str(original)))
    found = error_of(run, RuntimeError("Job failed"))
    assert type(found) is kind and str(found) == str(original) and found.where == "a.png"
    assert (found.exit_code, found.status) == (kind.exit_code, kind.status)


@pytest.mark.parametrize("source", ["builtins.ValueError", "components.core.errors.annotations", "elsewhere.GateRefused"])
def test_any_other_error_is_named_with_its_step(source: str) -> None:
    found = error_of(_run(score=_step("failed", source, "no such thing")), RuntimeError("Job failed"))
    assert type(found) is StyleForgeError and "step score" in str(found) and "no such thing" in str(found)


@pytest.mark.parametrize(
    ("steps", "raised", "words"),
    [
        (
            {"scan": "completed", "fine_tune": "failed"},
            "Job sf:x failed: Job was active\nlonger",
            ("step fine_tune: ", "Job was active longer"),
        ),
        ({"scan": "completed"}, "Job x failed: backoff limit", ("run in pods: ", "backoff limit")),
        ({"scan": None}, "Job failed: Detected container in state ErrImagePull", ("image forge:1: ", "ErrImagePull")),
        (None, "ImagePullBackOff", ("image of the pods", "ImagePullBackOff")),
    ],
)
def test_a_pod_that_said_nothing(steps: dict[str, str | None] | None, raised: str, words: tuple[str, str]) -> None:
    run = _run(**{name: _step(status) if status else None for name, status in steps.items()}) if steps else None
    found = str(error_of(run, RuntimeError(raised)))
    assert found.startswith(words[0]) and words[1] in found and "doctor --stack" in found


def test_a_pod_that_never_began_has_no_record() -> None:
    run = _run(scan=_step("completed"), validate=_step("cached"), split=None, score=None)
    assert str(error_of(run, RuntimeError("the run is failed"))).startswith("step split: its pod was lost, or found no node in time")
    run.snapshot.step_configurations["score"].spec.upstream_steps = ["validate"]
    assert str(error_of(run, RuntimeError("the run is failed"))).startswith("steps score, split: their pods were lost, or found no node")


def test_an_error_from_before_the_run_stays_as_it_is() -> None:
    problem = InputError("kubeconfig", "no such file")
    assert error_of(None, problem) is problem
