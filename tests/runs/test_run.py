import json
import os
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image

from components.core.paths import write_json
from orchestration.outcome import RunResult
from runs.run import _gather_outputs
from tests.stand_in import COMMAND, StandIn, start


def test_the_result_and_what_lies_where(finished: StandIn) -> None:
    result, home = finished.first, finished.home
    assert Path(result["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (result["model"]["name"], result["model"]["alias"]) == ("styleforge-test", "challenger")
    for scores in (result["scores"], result["base_scores"]):
        assert set(scores["kid"]) == {"value", "low", "high", "n"}
    assert set(result["seconds"]) >= {"scan", "fine_tune", "register"}
    # The registered model knows its name and how to draw.
    (model,) = (home / "mlflow" / "artifacts" / "styleforge").glob(f"{result['model']['run_id']}/artifacts/model")
    card = json.loads((model / "styleforge.json").read_text(encoding="utf-8"))
    assert card["style"] == "test" and card["sampling"]["steps"] == 2
    # State lies under the home alone, and no work is left there.
    assert [path for path in (finished.folder / "user").rglob("*") if path.is_file()] == []
    assert not [name for name in (".styleforge", ".zen", "mlruns") if (finished.folder / name).exists()]
    assert not [path for part in ("work", "checkpoints", "pictures") for path in (home / part).iterdir()]


def test_the_answer_says_what_limits_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("runs.run.output_folder", lambda run, step: tmp_path / step)
    kid, clip_t = ({"value": value, "low": value, "high": value, "n": 64} for value in (0.1, 50.0))
    same = {"kid": kid, "clip_t": clip_t}
    write_json(tmp_path / "score" / "scores.json", {"style": same, "base": same, "context": {"reference": "held-out", "reference_n": 64}})
    write_json(tmp_path / "register" / "registration.json", {})
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").touch()
    finding = {"name": "coherence", "says": "Two styles.", "good": False, "value": 0.1, "threshold": 0.5, "at_most": False}
    write_json(tmp_path / "examine" / "examination.json", {"headline": "Look first.", "findings": [finding]})
    for steps, found in (
        ({"examine": None}, {"headline": "Look first.", "limit": "The set. Two styles."}),
        ({}, None),
    ):  # fmt: skip
        run, result = SimpleNamespace(id="r", steps=steps), RunResult(status="completed")
        _gather_outputs(cast("Any", run), result)
        assert result.as_dict()["examination"] == found


def test_a_failed_step_is_one_message_and_the_next_run_goes_on(finished: StandIn) -> None:
    failed = finished.styleforge("run", "config.yaml", "--json", "--set", "training.steps=4", STAND_IN="fail")
    assert (failed.returncode, failed.json["status"]) == (1, "failed") and "Traceback" not in failed.stderr
    assert failed.json["error"]["message"] == "the loss is nan | step 3" and "fine_tune" in failed.json["seconds"]
    assert list((finished.home / "work").iterdir()) == []
    (checkpoints,) = (finished.home / "checkpoints").iterdir()
    assert (checkpoints / "step-1").is_file()
    assert "fine_tune" not in finished.run("--set", "training.steps=4")["cached"]
    assert list((finished.home / "checkpoints").iterdir()) == []


def test_a_full_disk_is_named(finished: StandIn) -> None:
    full = finished.styleforge("run", "config.yaml", "--json", "--set", "training.steps=5", STAND_IN="full")
    assert full.returncode == 1 and "free some space" in full.stderr.lower()
    assert "No space left on device" in full.json["error"]["message"]
    # What was reached until then is kept for the next try; here it would only be in the way of other tests.
    for folder in (finished.home / "checkpoints").iterdir():
        shutil.rmtree(folder)


def test_a_gate_refuses_before_anything_trains(finished: StandIn) -> None:
    unwanted = finished.folder / "pictures" / "refused.png"
    Image.new("RGB", (8, 8)).save(unwanted)
    try:
        refused = finished.styleforge("run", "config.yaml", "--json")
    finally:
        unwanted.unlink()
    assert (refused.returncode, refused.json["status"]) == (3, "refused") and "refused.png" in refused.json["error"]["message"]
    assert set(refused.json["seconds"]) == {"scan", "validate"}


def test_no_cache_runs_every_step(finished: StandIn) -> None:
    assert finished.run("--no-cache")["cached"] == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_ends_cleanly_and_keeps_its_checkpoints(finished: StandIn, signum: signal.Signals) -> None:
    arguments = ("run", "config.yaml", "--json", "--set", "training.steps=6")
    # As in the background of a script. That Ctrl-C does the same is Python's own.
    ignoring = f"import signal; signal.signal({signum:d}, signal.SIG_IGN)\n{COMMAND}"
    running = start(ignoring, *arguments, folder=finished.folder, environment=finished.environment(STAND_IN="wait"))
    running.wait_for("waiting")
    time.sleep(0.2)
    os.kill(running.pid, signum)
    done = running.wait()
    assert done.returncode == 130, done.stdout + done.stderr
    assert "interrupted" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list((finished.home / "work").iterdir()) == []
    assert len([path for path in (finished.home / "checkpoints").iterdir() if path.is_dir()]) == 1


def test_wrong_run_settings_stop_the_run(finished: StandIn) -> None:
    (finished.folder / "other.yaml").write_text("steps: {fine_tuen: {}}", encoding="utf-8")
    done = finished.styleforge("run", "config.yaml", "--settings", "other.yaml")
    assert done.returncode == 2 and "fine_tune" in done.stderr
