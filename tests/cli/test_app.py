import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.app import app
from components.core.paths import REPOSITORY


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with an empty home and a small configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("style: {name: test, source: pictures}", encoding="utf-8")
    return tmp_path


def _call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_config_prints_every_default(folder: Path) -> None:
    code, stdout, _ = _call("config", "config.yaml", "--set", "training.steps=7")
    resolved = yaml.safe_load(stdout)
    assert (code, resolved["training"]["steps"], resolved["scoring"]["bootstrap"]) == (0, 7, 200)


def test_doctor_says_what_is_missing_and_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.doctor.embedded_weights", lambda part: folder / part)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, stdout, _ = _call("doctor", "--json")
    assert code == 1
    checks = {check["name"]: check for check in json.loads(stdout.splitlines()[-1])["checks"]}
    assert not checks["pocket weights"]["ok"] and "styleforge base train pocket" in checks["pocket weights"]["remedy"]
    assert checks["python"]["ok"] and checks["home"]["ok"] and not checks["mlflow"]["ok"]


def test_doctor_is_content_with_a_whole_installation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, file in {"base": "model_index.json", "evaluator": "config.json"}.items():
        (folder / part).mkdir()
        (folder / part / file).write_text("{}")
    monkeypatch.setattr("orchestration.doctor.embedded_weights", lambda part: folder / part)
    assert _call("doctor")[0] == 0


def test_unknown_names_are_refused(folder: Path) -> None:
    assert _call("base", "train", "pocket", "--minutes", "unet")[0] == 2
    assert "vae, transformer" in _call("base", "train", "pocket-flow", "--part", "unet")[2]
    code, _, stderr = _call("pocket", "render", "--style", "anine", "--out", "out")
    assert code == 2 and "anime" in stderr


def test_help_starts_fast_and_imports_nothing_heavy() -> None:
    program = "import sys; from cli.app import app; print([m for m in ('torch','zenml','mlflow','pandas','numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
