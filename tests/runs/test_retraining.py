import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.stand_in import StandIn
from tests.web_hook import Hook, web_hook


@pytest.fixture(scope="module")
def stand_in(finished: StandIn) -> StandIn:
    """One for all tests; each has style sets of its own."""
    finished.edit("config.yaml", "{source: curated, count: 3, pool: pool}", "{source: none}")
    return finished


@pytest.fixture(autouse=True)
def no_sets(stand_in: StandIn) -> None:
    shutil.rmtree(stand_in.folder / "sets", ignore_errors=True)
    (stand_in.folder / "trainings.txt").write_text("")


def add_picture(stand_in: StandIn, style: str, name: str, tone: int) -> None:
    (stand_in.folder / "sets" / style).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (tone, 0, 0)).save(stand_in.folder / "sets" / style / name)


ARGUMENTS = ("retrain", "config.yaml", "--source", "sets", "--json")


def retrain(stand_in: StandIn, *arguments: str, code: int = 0, gate: str = "any.yaml", **environment: str) -> dict[str, Any]:
    done = stand_in.styleforge(*ARGUMENTS, "--gate", gate, *arguments, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.json


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["status"] for item in result["sets"]}


def trainings(stand_in: StandIn) -> int:
    return len((stand_in.folder / "trainings.txt").read_text().splitlines())


def versions(stand_in: StandIn, *styles: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in stand_in.styleforge("models", "--json").json["models"]:
        if any(style in row["name"] for style in styles):
            found.setdefault(row["name"], []).append(row["version"])
    return found


@pytest.fixture
def hook() -> Iterator[Hook]:
    with web_hook() as made:
        yield made


def texts(hook: Hook) -> list[str]:
    return [message["text"] for _, message in hook.messages]


@pytest.mark.slow
def test_sets_that_fail_and_sets_with_settings_of_their_own(stand_in: StandIn, hook: Hook) -> None:
    address = {"STYLEFORGE_WEBHOOK_URL": hook.url}
    for tone, name in enumerate(("anime/a.png", "cubism/a.png", "bad name/a.png", "boom/boom.png", "greedy/a.png")):
        add_picture(stand_in, *name.split("/"), tone)
    (stand_in.folder / "sets" / "greedy" / "styleforge.yaml").write_text("registry: {model: other}")
    (stand_in.folder / "sets" / "empty").mkdir()
    first = retrain(stand_in, code=1, **address)
    bad = ("bad name", "boom", "empty", "greedy")
    assert statuses(first) == {"anime": "promoted", "cubism": "promoted"} | dict.fromkeys(bad, "failed")
    assert first["status"] == "failed" and first["counts"] == {"failed": 4, "promoted": 2}
    errors = {item["name"]: item["message"] for item in first["sets"] if item["error"]}
    assert errors["boom"] == "the loss is nan | step 3" and "name='bad name'" in errors["bad name"]
    assert "empty" in errors["empty"] and "cannot decide registry" in errors["greedy"]
    made = {"styleforge-anime": ["1"], "styleforge-cubism": ["1"]}
    assert trainings(stand_in) == 2 and versions(stand_in, "anime", "cubism", "boom", "greedy", "other") == made
    assert len(hook.messages) == 6 and "StyleForge: boom: failed: the loss is nan | step 3" in texts(hook)
    for name in bad:
        shutil.rmtree(stand_in.folder / "sets" / name)

    # The set's own settings are a change as well. What is only registered is judged later, without a training.
    (stand_in.folder / "sets" / "cubism" / "styleforge.yaml").write_text("training: {steps: 9}")
    own = retrain(stand_in, "--no-promote", **address)
    assert statuses(own) == {"anime": "unchanged", "cubism": "registered"} and trainings(stand_in) == 3
    judged = retrain(stand_in, **address)
    assert statuses(judged) == {"anime": "unchanged", "cubism": "promoted"} and trainings(stand_in) == 3
    assert (judged["sets"][1]["version"], judged["sets"][1]["champion"]) == ("2", "1")
    # The webhook's address was kept nowhere.
    kept = [path for path in stand_in.home.rglob("*") if path.is_file() and b"secret-part" in path.read_bytes()]
    assert kept == [] and "secret-part" not in "".join(path.read_text() for path in stand_in.folder.glob("std*.txt"))


@pytest.mark.slow
def test_two_at_once_leave_whole_versions_and_one_champion(stand_in: StandIn) -> None:
    add_picture(stand_in, "first", "a.png", 20)
    # Development versions are promoted into the model without the ending.
    arguments = (*ARGUMENTS, "--gate", "any.yaml", "--set", "registry.model=styles-{style}.dev")
    for done in [running.wait() for running in [stand_in.start(*arguments) for _ in range(2)]]:
        assert done.returncode == 0, done.stdout + done.stderr
        assert set(statuses(done.json).values()) <= {"promoted", "unchanged"}
    made = versions(stand_in, "first")
    # At worst each has trained and registered it.
    assert made.keys() == {"styles-first", "styles-first.dev"} and trainings(stand_in) in (1, 2)
    assert all(len(numbers) in (1, 2) for numbers in made.values())
    rows = stand_in.styleforge("models", "--json").json["models"]
    (champion,) = (row for row in rows if row["name"] == "styles-first" and "champion" in row["aliases"])
    assert champion["version"] == made["styles-first"][0]


def test_what_is_found_before_anything_runs(stand_in: StandIn, hook: Hook) -> None:
    add_picture(stand_in, "early", "a.png", 60)
    for arguments, code, message in (
        (("--set", "training.stesp=3"), 2, "did you mean training.steps"),
        (("--set", "registry.model=one"), 2, "the same name for all style sets"),
        (("--to", "latest"), 2, "is not a valid alias"),
        (("--gate", "gone.yaml"), 2, "gone.yaml"),
        (("--settings", "gone-settings.yaml"), 2, "gone-settings.yaml"),
        (("--webhook-env", "GONE_HOOK"), 2, "GONE_HOOK"),
        (("--source", "gone"), 2, "no such folder"),
        (("--source", "https://me:secret@host/sets"), 2, "must not contain a user name"),
    ):
        done = stand_in.styleforge(*ARGUMENTS, *arguments)
        assert done.returncode == code and message in done.json["error"]["message"] and "secret" not in done.stdout + done.stderr
    done = stand_in.styleforge(*ARGUMENTS, MLFLOW_TRACKING_URI="http://127.0.0.1:9", OTHER=hook.url)
    assert done.returncode == 4 and hook.messages == []
    done = stand_in.styleforge(*ARGUMENTS, "--webhook-env", "OTHER", MLFLOW_TRACKING_URI="http://127.0.0.1:9", OTHER=hook.url)
    assert done.returncode == 4 and "retraining did not start" in texts(hook)[0]


def test_a_full_disk_stops_the_rest(stand_in: StandIn) -> None:
    add_picture(stand_in, "large", "a.png", 40)
    add_picture(stand_in, "next", "a.png", 50)
    result = retrain(stand_in, code=1, STAND_IN="full")
    assert statuses(result) == {"large": "failed", "next": "stopped"} and "No space left" in result["sets"][0]["message"]
    assert trainings(stand_in) == 0


def test_a_set_is_trained_when_it_is_new_and_when_it_changes(stand_in: StandIn, hook: Hook) -> None:
    address = {"STYLEFORGE_WEBHOOK_URL": hook.url}
    add_picture(stand_in, "settled", "a.png", 70)
    dry = retrain(stand_in, "--dry-run", **address)
    assert statuses(dry) == {"settled": "new"} and dry["dry_run"] and trainings(stand_in) == 0
    assert versions(stand_in, "settled") == {} and hook.messages == []
    add_picture(stand_in, "bad name", "a.png", 71)
    first = retrain(stand_in, code=1, **address)
    assert statuses(first) == {"bad name": "failed", "settled": "promoted"} and trainings(stand_in) == 1
    assert "StyleForge: settled: promoted: version 1 of styleforge-settled is now @champion" in texts(hook)
    shutil.rmtree(stand_in.folder / "sets" / "bad name")
    hook.messages.clear()
    assert statuses(retrain(stand_in, **address)) == {"settled": "unchanged"} and hook.messages == []
    # Settings are a change as well, and those of the steps reach the runs; a gate that refuses is no failure.
    (stand_in.folder / "mine.yaml").write_text("steps: {split: {enable_cache: false}}")
    again = retrain(stand_in, "--set", "training.steps=3", "--settings", "mine.yaml", gate="none.yaml", **address)
    assert statuses(again) == {"settled": "refused"} and trainings(stand_in) == 2
    assert texts(hook) == ["StyleForge: settled: refused: version 2 is registered; version 1 stays @champion"]
    # The pictures are the same, so both would come from the cache.
    assert (last(stand_in, "validate"), last(stand_in, "split")) == ("cached", "completed")
    # What was refused is not judged again.
    assert statuses(retrain(stand_in, "--set", "training.steps=3")) == {"settled": "unchanged"}
    add_picture(stand_in, "settled", "b.png", 77)
    assert statuses(retrain(stand_in, "--dry-run")) == {"settled": "changed"}


def last(stand_in: StandIn, step: str) -> str:
    """How the step that began last came to its end, as ZenML has it on record."""
    (database,) = stand_in.folder.rglob("zenml.db")
    with contextlib.closing(sqlite3.connect(database)) as records:
        query = "select status from step_run where name = ? order by start_time desc limit 1"
        return str(records.execute(query, (step,)).fetchone()[0])
