from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import ConfigError
from orchestration.preflight import plan_pods
from orchestration.settings import POD_ORCHESTRATORS, check_settings, settings_for


def _write(folder: Path, text: str) -> Path:
    path = folder / "zenml.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("stepz: {}", "unknown key stepz (did you mean steps?)"),
        ("steps: {fine_tuen: {}}", "unknown step steps.fine_tuen (did you mean steps.fine_tune?)"),
        ("steps: {score: {setings: {}}}", "unknown key steps.score.setings (did you mean steps.score.settings?)"),
        ("steps: {score: {retry: {max_retry: 3}}}", "did you mean steps.score.retry.max_retries?"),
        ("settings: {docker: {parent_image: '${SURELY_UNSET}'}}", "${SURELY_UNSET}: the variable is not set"),
        ("settings: {dokcer: {}}", "unknown settings key settings.dokcer (did you mean settings.docker?)"),
        ("settings: {docker: {requirments: []}}", "settings.docker.requirments (did you mean settings.docker.requirements?)"),
        ("steps: {score: {settings: {resources: {cpu_cout: 2}}}}", "did you mean steps.score.settings.resources.cpu_count?"),
        ("steps: {score: {settings: {resources: {memory: lots}}}}", "steps.score.settings.resources.memory='lots'"),
        ("steps: {score: {enable_cache: sometimes}}", "steps.score.enable_cache='sometimes'; expected true or false"),
        ("steps: [score]", "expected a mapping"),
        ("settings: 3", "settings=3; expected a mapping"),
    ],
)
def test_what_zenml_would_ignore_is_refused(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(_write(tmp_path, text))
    assert wanted in str(caught.value)
    assert "zenml.yaml" in str(caught.value)


_STACKS = """
settings: {docker: {parent_image: '${FORGE_IMAGE:-ours}'}, orchestrator.kubernetes: {active_deadline_seconds: 9}}
steps:
  fine_tune: {enable_cache: false, retry: {max_retries: 3}, settings: {orchestrator.kubernetes: {active_deadline_seconds: 7}}}
  score: {settings: {resources: {cpu_count: 2}}}
"""


def test_a_stack_gets_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_IMAGE", "theirs:1")
    path = _write(tmp_path, _STACKS)

    def given(*flavors: str, **options: Any) -> dict[str, Any]:
        return dict(yaml.safe_load(settings_for(path, flavors, **options).read_text()))

    pods = given("orchestrator.kubernetes", "artifact_store.s3")
    assert pods["settings"] == {"docker": {"parent_image": "theirs:1"}, "orchestrator.kubernetes": {"active_deadline_seconds": 9}}
    assert pods["steps"]["fine_tune"]["retry"] == {"max_retries": 3}
    here = given("orchestrator.local", "artifact_store.local")
    # A retry on this machine would swallow Ctrl-C, and settings of another orchestrator only bring a warning.
    assert here == {"steps": {"fine_tune": {"enable_cache": False}, "score": {"settings": {"resources": {"cpu_count": 2}}}}}
    operator = given("orchestrator.local", "step_operator.kubernetes")
    assert operator["settings"] == {"docker": {"parent_image": "theirs:1"}} and operator["steps"]["fine_tune"]["retry"]
    assert set(given("orchestrator.kubernetes", steps=["score"])["steps"]) == {"score"}


def test_the_preflight_and_the_check_know_the_same_orchestrators(tmp_path: Path) -> None:
    """The preflight read settings of Kubeflow's orchestrator that no file could hold."""
    for flavor in POD_ORCHESTRATORS:
        text = f"settings: {{orchestrator.{flavor}: {{pod_settings: {{labels: {{a: b}}}}}}}}"
        pods = plan_pods(check_settings(_write(tmp_path, text)), {}, flavor, environment={})
        assert {"a": "b"} in [plan.manifest["metadata"].get("labels") for plan in pods]


def test_what_has_passed_is_not_checked_again_and_what_has_not_is(tmp_path, monkeypatch):
    right = _write(tmp_path, "settings:\n  docker:\n    dockerfile: Dockerfile\n")
    first = check_settings(right)
    monkeypatch.setattr("orchestration.settings.SETTINGS", {"docker": ("no.such.module", "DockerSettings")})
    assert check_settings(right) == first
    wrong = _write(tmp_path, "settings:\n  docker:\n    no_such_key: 1\n")
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(ConfigError, match="no_such_key"):
            check_settings(wrong)
