import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from cli.app import app
from components.core.errors import InputError, ServiceUnreachable, StorageError, known_error
from orchestration.client import connect


@pytest.fixture
def locked(tmp_path: Path) -> Exception:
    """What SQLAlchemy raises of a database that somebody else writes to."""
    holder = sqlite3.connect(tmp_path / "zenml.db")
    holder.execute("BEGIN EXCLUSIVE")
    engine = create_engine(f"sqlite:///{tmp_path}/zenml.db", connect_args={"timeout": 0.01})
    with pytest.raises(OperationalError) as caught, engine.begin() as connection:
        connection.execute(text("CREATE TABLE runs (name TEXT)"))
    holder.close()
    return caught.value


def test_an_error_that_is_its_own_cause_comes_back() -> None:
    error = ValueError("no")
    error.__cause__ = error
    assert known_error(error) is error
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert known_error(one) is one


def test_our_error_is_found_behind_others() -> None:
    behind, full = InputError("a", "b"), OSError(28, "No space left on device", "file")
    error = RuntimeError("outer")
    error.__cause__ = behind
    assert known_error(error) is behind
    error.__cause__ = full
    assert isinstance(known_error(error), StorageError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("Authentication error: could not verify key value for API key ci"), InputError),
        (ConnectionError("Max retries exceeded"), ServiceUnreachable),
        (ValueError("something else"), ValueError),
    ],
)
def test_zenml_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]) -> None:
    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr("orchestration.client.prepare_environment", lambda: None)
    monkeypatch.setattr("zenml.client.Client.active_stack_model", property(fail))
    with pytest.raises(kind) as caught:
        connect()
    # What reports the error walks along its causes.
    assert isinstance(known_error(caught.value), kind)


def test_a_locked_database_is_no_fault_of_ours(monkeypatch: pytest.MonkeyPatch, own_home: Path, locked: Exception) -> None:
    def fail(self: object) -> None:
        raise locked

    monkeypatch.setattr("zenml.client.Client.active_stack_model", property(fail))
    result = CliRunner().invoke(app, ["stack", "list", "--json"])
    error = json.loads(result.stdout.splitlines()[-1])["error"]
    assert result.exit_code == 4 and error["kind"] == "ServiceUnreachable" and "fault in StyleForge" not in result.stderr
    assert error["where"] == "ZenML's database" and "locked: another run uses the same STYLEFORGE_HOME" in error["problem"]
    assert "wait" in error["remedy"] and "another STYLEFORGE_HOME" in error["remedy"]


def test_a_locked_database_behind_another_error(locked: Exception) -> None:
    error = RuntimeError("the step failed")
    error.__cause__ = locked
    assert isinstance(known_error(error), ServiceUnreachable)
