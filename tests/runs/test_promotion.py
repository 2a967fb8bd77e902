from typing import Any

import pytest

from tests.stand_in import Done, StandIn


@pytest.fixture(scope="module")
def stand_in(finished: StandIn) -> StandIn:
    finished.run("--set", "training.steps=3")
    return finished


def promote(stand_in: StandIn, *arguments: str, **environment: str) -> Done:
    return stand_in.styleforge("promote", *arguments, "--json", **environment)


def champion(stand_in: StandIn) -> str | None:
    rows: list[dict[str, Any]] = stand_in.styleforge("models", "--json").json["models"]
    return next((row["version"] for row in rows if "champion" in row["aliases"]), None)


def test_from_a_refusal_to_a_rollback(stand_in: StandIn) -> None:
    refused = promote(stand_in, "styleforge-test/1", "--gate", "none.yaml")
    assert refused.returncode == 3 and refused.json["status"] == "refused" and refused.json["gate"]["verdict"] == "refuse"
    assert "is not promoted (refuse): there is no @champion yet" in refused.stdout
    undecided = promote(stand_in, "styleforge-test/1", "--gate", "open.yaml")
    assert undecided.returncode == 3 and undecided.json["gate"]["verdict"] == "undecided"
    assert "about" in undecided.stdout or "no reasonable number" in undecided.stdout
    dry = promote(stand_in, "styleforge-test/1", "--gate", "any.yaml", "--dry-run")
    assert dry.returncode == 0 and not dry.json["promoted"] and champion(stand_in) is None
    first = promote(stand_in, "styleforge-test/1", "--gate", "any.yaml", "--reason", "the first")
    assert first.returncode == 0 and first.json["promoted"] and first.json["champion"] is None and champion(stand_in) == "1"
    second = promote(stand_in, "styleforge-test@challenger", "--gate", "any.yaml", GITHUB_RUN_ID="5", GITHUB_ACTOR="ada")
    assert second.returncode == 0, second.stderr
    assert second.json["model"] == {"name": "styleforge-test", "version": "2", "alias": "champion", "source": "styleforge-test/2"}
    assert second.json["champion"] == {"name": "styleforge-test", "version": "1"} and second.json["history"]["who"] == "ada"
    forced = promote(stand_in, "styleforge-test/1", "--gate", "none.yaml", "--force", "--reason", "for a test")
    assert forced.returncode == 0 and forced.json["forced"]
    back = stand_in.styleforge("rollback", "styleforge-test", "--reason", "enough", "--json")
    assert back.returncode == 0 and back.json["history"]["version"] == "2" and champion(stand_in) == "2"
    history = stand_in.styleforge("history", "styleforge-test", "--json")
    assert [(entry["action"], entry["version"]) for entry in history.json["history"]] == [
        ("promote", "1"), ("promote", "2"), ("promote", "1"), ("rollback", "2"),
    ]  # fmt: skip
    assert "for a test" in history.stdout and "promote by force" in history.stdout


def test_as_a_pipeline_on_the_stack(stand_in: StandIn) -> None:
    done = promote(stand_in, "styleforge-test/1", "--gate", "any.yaml", "--to", "staging", "--on-stack")
    assert done.returncode == 0 and done.json["promoted"] and done.json["model"]["alias"] == "staging"
    refused = promote(stand_in, "styleforge-test/1", "--gate", "none.yaml", "--to", "elsewhere", "--on-stack")
    assert refused.returncode == 3 and refused.json["gate"]["verdict"] == "refuse"
    missing = promote(stand_in, "styleforge-test/99", "--gate", "any.yaml", "--on-stack")
    assert missing.returncode == 2 and "no such folder or registered model" in missing.json["error"]["message"]
    assert list((stand_in.home / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no such folder or registered model"),
        (("components",), "is a folder"),
        (("styleforge-test", "--force"), "--reason"),
        (("styleforge-test", "--gate", "missing.yaml"), "missing.yaml: no such file"),
    ],
)
def test_what_cannot_be_promoted(stand_in: StandIn, arguments: tuple[str, ...], message: str) -> None:
    done = promote(stand_in, *arguments)
    assert done.returncode == 2 and message in done.json["error"]["message"] and "Traceback" not in done.stderr


def test_a_registry_that_does_not_answer(stand_in: StandIn) -> None:
    for command in (("promote", "m"), ("history", "m"), ("rollback", "m"), ("prune",)):
        done = stand_in.styleforge(*command, "--json", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
        assert done.returncode == 4 and "127.0.0.1:9" in done.json["error"]["message"]


def test_a_run_whose_cached_registration_was_pruned_registers_anew(stand_in: StandIn) -> None:
    first = stand_in.run("--set", "training.steps=7")
    assert stand_in.run("--set", "training.steps=7")["model"]["version"] == first["model"]["version"]
    stand_in.run("--set", "training.steps=8")  # Takes the alias away.
    listed = stand_in.styleforge("prune", "styleforge-test", "--keep", "0", "--json")
    assert first["model"]["version"] in [row["version"] for row in listed.json["versions"]] and not listed.json["deleted"]
    assert stand_in.styleforge("prune", "styleforge-test", "--keep", "0", "--yes", "--json").json["deleted"]
    again = stand_in.run("--set", "training.steps=7")
    assert int(again["model"]["version"]) > int(first["model"]["version"]) and "fine_tune" in again["cached"]
    assert stand_in.styleforge("prune", "nothing").returncode == 2
