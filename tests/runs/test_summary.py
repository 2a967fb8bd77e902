import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app

SCORE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
RESULT: dict[str, Any] = {
    "status": "completed", "run_id": "r", "scores": {"clip_t": SCORE}, "base_scores": {"clip_t": SCORE},
    "model": {"name": "a b", "version": "2", "alias": "x", "tracking_uri": "https://mlflow.example.org/"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "result.json").write_text("table for people\n" + json.dumps(RESULT) + "\n")
    (tmp_path / "failed.json").write_text(json.dumps({"status": "failed", "error": {"message": "no such folder"}}))
    (tmp_path / "bad.json").write_text("{}\nTraceback")
    (tmp_path / "list.json").write_text("[]")
    return tmp_path


def _call(*arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, ["summary", *arguments, "--out", "out", "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "neither RESULT nor --gate"),
        (["nowhere.json"], "nowhere.json: cannot be read"),
        (["bad.json"], "bad.json: its last line is not JSON"),
        (["failed.json", "--gate", "list.json"], "list.json: its last line is not a JSON object"),
        (["failed.json", "--link", "https://a.org"], "TEXT=URL"),
    ],
)
def test_bad_input_is_named(folder: Path, arguments: list[str], words: str) -> None:
    _, said = _call(*arguments, code=2)
    assert words in said and not (folder / "out").exists()


def test_a_failed_run_needs_no_zenml(folder: Path) -> None:
    files, _ = _call("failed.json", "--title", "a.yaml", "--link", "log=https://a.org/?a=b")
    text = Path(files["summary"]).read_text(encoding="utf-8")
    assert "### a.yaml" in text and "no such folder" in text and "[log](https://a.org/?a=b)" in text
    assert files["grid"] is None and not (folder / "home" / "zenml").exists()


@pytest.mark.parametrize("gone", ["run", "files"])
def test_without_the_runs_files_the_figures_are_told_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    (folder / "empty").mkdir()
    monkeypatch.setattr("orchestration.client.connect", lambda: None)
    monkeypatch.setattr("orchestration.client.find_run", lambda name: None if gone == "run" else SimpleNamespace(id=name))
    monkeypatch.setattr("orchestration.client.output_folder", lambda run, step: folder / "empty")
    monkeypatch.setattr("zenml.utils.dashboard_utils.get_run_url", lambda run: "https://zenml.example.org/runs/r")
    files, said = _call("result.json")
    text = Path(files["summary"]).read_text(encoding="utf-8")
    assert "| CLIP-T ↑ | 0.50 (0.40 to 0.60) |" in text and "![" not in text
    assert files["grid"] is None and files["report"] is None and "without" in said
    assert "[model in MLflow](https://mlflow.example.org/#/models/a%20b/versions/2)" in text
    assert ("[run in ZenML]" in text) == (gone == "files")
