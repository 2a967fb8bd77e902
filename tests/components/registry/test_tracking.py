import json
import socket
from pathlib import Path

import pytest

from components.core.errors import InputError, ServiceUnreachable
from components.registry.tracking import (
    check_reachable,
    open_tracking,
    public_uri,
    score_metrics,
    service_errors,
    tracking_uri,
    training_metrics,
)
from tests.http_server import http_server


def test_which_server_and_how_it_is_shown(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri() == f"sqlite:///{own_home.resolve()}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert (tracking_uri(), tracking_uri("http://configured")) == ("http://server", "http://configured")
    assert public_uri("http://user:word@host:5000/path") == "http://host:5000/path"
    assert public_uri("sqlite:////a/b.db") == "sqlite:////a/b.db"
    for uri in ("./mlruns", "file:///mlruns"):
        with pytest.raises(InputError, match="file store"):
            check_reachable(uri)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://me:secret@no-such-host.invalid:5000", "http://", "http://me:secret@"])
def test_nobody_there(uri: str) -> None:
    with pytest.raises(ServiceUnreachable, match="MLFLOW_TRACKING_URI") as caught:
        check_reachable(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.timeout(60)
def test_a_server_that_accepts_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.registry.tracking.ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ServiceUnreachable):
        open_tracking(f"http://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("login", ["", "user:p%40ss@"])
def test_an_answer_that_is_an_error_is_an_answer(login: str) -> None:
    asked: list[str | None] = []
    with http_server(lambda call: asked.append(call.headers["Authorization"]) or (401, "")) as url:
        check_reachable(url.replace("//", f"//{login}"))
    assert asked == ["Basic dXNlcjpwQHNz" if login else None]


@pytest.mark.parametrize(("place", "shared"), [("home/mlflow/mlflow.db", "STYLEFORGE_HOME"), ("team.db", "MLFLOW_TRACKING_URI")])
def test_a_locked_database_is_no_server_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, shared: str) -> None:
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    uri = f"sqlite:///{tmp_path / place}"
    # In MLflow's words, which waits for twenty seconds.
    with pytest.raises(ServiceUnreachable) as caught, service_errors(uri):
        raise MlflowException("(sqlite3.OperationalError) database is locked [SQL: INSERT INTO registered_models]")
    assert caught.value.where == f"MLflow at {uri}" and f"locked: another run uses the same {shared}" in caught.value.problem
    assert f"another {shared}" in caught.value.remedy


def test_training_log_and_scores_become_metrics(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    rows = [{"step": 1, "loss": 0.5, "note": "text"}, {"step": 2, "loss": 0.25, "lr": 1e-4, "validation_loss": None}]
    log.write_text("\n".join(json.dumps(row) for row in rows))
    assert training_metrics(log) == [("train/loss", 0.5, 1), ("train/loss", 0.25, 2), ("train/lr", 1e-4, 2)]
    assert training_metrics(tmp_path / "none.jsonl") == score_metrics({"style": {}, "drift": None}) == []
    scores = {"style": {"kid": {"value": 0.1, "low": 0.0, "high": 0.2, "n": 9}}, "base": {}, "drift": {"clip_t": 30.0}, "context": {}}
    found = [("style/kid", 0.1, 0), ("style/kid_low", 0.0, 0), ("style/kid_high", 0.2, 0), ("drift/clip_t", 30.0, 0)]
    assert score_metrics(scores) == found
