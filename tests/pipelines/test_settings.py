from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import ConfigError, InputError
from pipelines.settings import STEPS, check_settings, default_settings_file


def _write(folder: Path, text: str) -> Path:
    path = folder / "zenml.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_projects_own_file_is_right() -> None:
    path = default_settings_file()
    assert path is not None
    assert set(check_settings(path)["steps"]) <= set(STEPS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("stepz: {}", "unknown key stepz (did you mean steps?)"),
        ("steps: {fine_tuen: {}}", "unknown step steps.fine_tuen (did you mean steps.fine_tune?)"),
        ("steps: {score: {setings: {}}}", "unknown key steps.score.setings (did you mean steps.score.settings?)"),
        ("steps: {score: {retry: {max_retries: 3}}}", "unknown key steps.score.retry"),
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


@pytest.mark.parametrize("text", ["- a", "a: [", "just words"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        check_settings(_write(tmp_path, text))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        check_settings(tmp_path / "none.yaml")


def test_known_settings_pass(tmp_path: Path) -> None:
    text = "settings: {docker: {requirements: [numpy]}}\nsteps: {fine_tune: {enable_cache: false, settings: {resources: {gpu_count: 1}}}}"
    assert check_settings(_write(tmp_path, text))["steps"]["fine_tune"]["enable_cache"] is False


def test_the_steps_are_the_pipelines() -> None:
    import inspect

    from pipelines import compare, personalize, wiring

    source = "".join(inspect.getsource(module) for module in (personalize, compare, wiring))
    assert all(f"from steps.{step} import {step}" in source for step in STEPS)
