"""A comparison from the command to its files, with the stand-in's quick components in the place of training and scoring."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stand_in import StandIn

COMPARISON: dict[str, Any] = {
    "name": "test",
    "run": "config.yaml",
    "styles": [{"name": "one", "source": "pictures"}],
    "methods": [{"name": "dreambooth", "set": {"aux.source": "none"}}, {"name": "single-styleforge", "label": "Single"}],
    "claims": [{"name": "Single is better", "better": "single-styleforge", "than": ["dreambooth"]}],
    "seeds": [0, 1],
}


pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stand_in(finished: StandIn) -> StandIn:
    # Else the finished run would have all of a cell.
    finished.edit("config.yaml", "training: {steps: 2}", "training: {steps: 3}")
    (finished.folder / "compare.yaml").write_text(yaml.safe_dump(COMPARISON))
    return finished


def compare(stand_in: StandIn, *arguments: str, code: int = 0, **environment: str) -> dict[str, Any]:
    done = stand_in.styleforge("compare", "compare.yaml", "--json", "--parallel", "1", *arguments, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.json


@pytest.fixture(scope="module")
def first(stand_in: StandIn) -> dict[str, Any]:
    """One cell's training fails; the others go on."""
    return compare(stand_in, code=1, FAIL_SEED="1")


def test_a_failing_cell_is_marked_and_the_rest_go_on(stand_in: StandIn, first: dict[str, Any]) -> None:
    assert first["status"] == "incomplete" and first["cells"]["total"] == 4
    assert [(cell["variants"], cell["seed"], cell["error"]) for cell in first["cells"]["failed"]] == [
        (["dreambooth"], 1, "the loss is nan | step 3"), (["single-styleforge"], 1, "the loss is nan | step 3"),
    ]  # fmt: skip
    assert Path(first["files"]["comparison.html"]).is_file()
    assert first["claims"][0]["verdict"] == "undecided"
    # With and without a pool of Aux 2 × (scan, validation, split, Aux); the base's pictures of the one seed that got so far;
    # 4 trainings, 2 of which failed; 2 × (pictures, scores, record); comparison and tracking.
    assert first["steps"] == 2 * 4 + 1 + 4 + 2 * 3 + 2


def test_finished_cells_are_not_run_again_and_failed_ones_are(stand_in: StandIn, first: dict[str, Any]) -> None:
    again = compare(stand_in)
    assert again["status"] == "completed" and again["cells"]["failed"] == []
    # Anew: for each of two failed cells training, pictures, scores, record; the base's pictures of that seed; the end.
    assert again["steps"] - again["cached"] == 2 * 4 + 1 + 2
    third = compare(stand_in, "--out", "results")
    assert third["cached"] == third["steps"]
    assert third["tracking"] == again["tracking"]
    assert third["files"]["comparison.html"] == "results/comparison.html"
    # Results are copies: what is edited there does not change what the cache holds.
    page = stand_in.folder / "results" / "comparison.html"
    page.write_text("edited")
    assert Path(again["files"]["comparison.html"]).read_text() == "<!doctype html>"
    assert page.stat().st_nlink == 1
    for part in ("work", "checkpoints", "pictures"):
        assert [path for path in (stand_in.home / part).iterdir() if path.is_dir()] == []


def test_a_single_run_is_known_to_the_comparison(stand_in: StandIn, first: dict[str, Any]) -> None:
    settings = ("style.name=one", "method.name=single-styleforge")
    run = stand_in.run(*(word for setting in settings for word in ("--set", setting)))
    assert set(run["seconds"]) - set(run["cached"]) == {"explain", "report", "register"}


def test_mlflow_has_a_parent_and_a_child_for_each_cell(stand_in: StandIn, first: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{stand_in.home / 'mlflow' / 'mlflow.db'}")
    parent = client.get_run(first["tracking"]["run_id"])
    assert parent.info.run_name == "test" and parent.data.metrics["cells/failed"] == 2
    assert len(first["tracking"]["cells"]) == 4
    for name, run_id in first["tracking"]["cells"].items():
        child = client.get_run(run_id)
        failed = name.endswith("/1")
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.info.status == ("FAILED" if failed else "FINISHED")
        assert ("style/kid" in child.data.metrics) != failed
        assert child.data.params["variant"] == name.split("/")[0]
    assert client.get_run(first["tracking"]["cells"]["dreambooth/one/0"]).data.params["aux.source"] == "none"


def test_when_every_cell_fails_the_comparison_failed(stand_in: StandIn, first: dict[str, Any]) -> None:
    failed = compare(stand_in, "--set", "seeds=[1]", "--set", "training.steps=8", code=1, FAIL_SEED="1")
    assert failed["status"] == "failed" and len(failed["cells"]["failed"]) == failed["cells"]["total"] == 2


@pytest.mark.slow
def test_several_processes_share_the_cells(stand_in: StandIn, first: dict[str, Any]) -> None:
    changed = ("--set", "training.steps=7")
    shared = compare(stand_in, *changed, "--parallel", "2", code=1, FAIL_SEED="1")
    # The failure was found in another process, and is not tried a second time in this one.
    assert [cell["seed"] for cell in shared["cells"]["failed"]] == [1, 1]
    assert shared["steps"] - shared["cached"] == 2


SIDE_BY_SIDE = """
import json, os
from pathlib import Path
from components.core.comparison import load_comparison
from orchestration.environment import prepare_environment
from runs.comparison_run import run_plan
from runs.comparison_plan import equalize, plan_comparison
from orchestration.client import connect
prepare_environment()
comparison = load_comparison(Path("compare.yaml"), ["training.steps=9"])
plan = plan_comparison(comparison, equalize(comparison))
connect()
found = []
for seed in ("1", "none"):
    os.environ["FAIL_SEED"] = seed
    result = run_plan(plan, "side", None, use_cache=True, concurrent=True)
    found.append([result.status, [cell["error"] for cell in result.failed], str(result.error)])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_cells_side_by_side(stand_in: StandIn, first: dict[str, Any]) -> None:
    """As on a cluster: every step is submitted, and a failed one takes only its own cell along."""
    assert json.loads(stand_in.python(SIDE_BY_SIDE).splitlines()[-1]) == [
        ["incomplete", ["the loss is nan | step 3"] * 2, "None"], ["completed", [], "None"],
    ]  # fmt: skip


def test_what_is_wrong_is_said_before_anything_runs(stand_in: StandIn) -> None:
    for override, message in (
        ("styles=[{name: one, source: nowhere}]", "no such folder"),
        ("training.stepz=3", "did you mean training.steps"),
    ):
        done = stand_in.styleforge("compare", "compare.yaml", "--set", override)
        assert done.returncode == 2 and message in done.stderr


@pytest.mark.slow
def test_more_cells_than_zenml_keeps_in_mind(stand_in: StandIn) -> None:
    # It remembers the outputs of a hundred steps; of those that the last step takes, more than one was forgotten.
    done = compare(stand_in, "--set", f"seeds={list(range(13))}")
    assert done["status"] == "completed" and done["cells"]["total"] == 26 and done["steps"] > 110
