"""Candidates in MLflow: a LoggedModel each, with metrics and a link to the run; the version is the chosen one's."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.core.paths import write_json
from components.registry.tracking import Tracking, open_tracking
from components.registry.versions import LOGGED_MODEL, SELECTION, find_version, register_model
from tests.components.registry.test_versions import SCORES, _model


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    return open_tracking()


def _row(step: int, guidance: float, kid: float) -> dict[str, Any]:
    score = {"value": kid, "low": kid - 0.01, "high": kid + 0.01, "n": 8}
    return {"step": step, "guidance": guidance, "scores": {"kid": score}, "inside": True, "tied": False, "strip": []}


def test_each_option_is_a_logged_model_and_the_version_the_chosen_one(tracking: Tracking, tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    write_json(model / SELECTION, {
        "guidances": [_row(20, 1.5, 0.2), _row(20, 2.5, 0.3)], "checkpoints": [_row(10, 1.5, 0.1), _row(20, 1.5, 0.2)],
        "chosen": {"step": 10, "guidance": 1.5},
    })  # fmt: skip
    (model / "training" / "previews").mkdir()
    Image.new("RGB", (8, 8)).save(model / "training" / "previews" / "step-00000100.png")
    reference = register_model(
        tracking, name="styleforge-test", alias="challenger", experiment="styleforge", model=model, params={}, tags={}, scores=SCORES
    )
    logged = [item.path for item in tracking.client.list_artifacts(reference.run_id, "images")]
    assert any(path.startswith("images/preview") and "100" in path for path in logged), logged
    found = tracking.client.search_logged_models([tracking.experiment("styleforge")], order_by=[{"field_name": "name"}])
    # What was drawn for both choices is one option.
    assert {(each.params["step"], each.params["guidance"]) for each in found} == {("10", "1.5"), ("20", "1.5"), ("20", "2.5")}
    assert {each.source_run_id for each in found} == {reference.run_id}
    (chosen,) = [each for each in found if each.tags.get("styleforge.chosen") == "true"]
    assert chosen.params["step"] == "10" and {metric.key: metric.value for metric in chosen.metrics}["selection/kid"] == 0.1
    version = find_version(tracking, "styleforge-test")
    assert version.tags[LOGGED_MODEL] == chosen.model_id and version.run_id == reference.run_id
    best = tracking.client.search_logged_models(
        [tracking.experiment("styleforge")], order_by=[{"field_name": "metrics.selection/kid", "ascending": True}]
    )
    assert best[0].model_id == chosen.model_id


def test_the_seed_of_a_training_is_a_parameter_of_its_candidates(tracking: Tracking, tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    rows = [{**_row(800, 1.5, kid), "seed": seed} for seed, kid in ((0, 0.2), (1234567, 0.1))]
    write_json(model / SELECTION, {"checkpoints": rows, "chosen": {"step": 800, "guidance": 1.5, "seed": 1234567}})
    register_model(
        tracking, name="styleforge-test", alias="challenger", experiment="styleforge", model=model, params={}, tags={}, scores=SCORES
    )
    found = tracking.client.search_logged_models([tracking.experiment("styleforge")])
    params = [{"step": "800", "guidance": "1.5", "seed": seed} for seed in ("0", "1234567")]
    assert sorted((each.params for each in found), key=lambda each: each["seed"]) == params
    (chosen,) = [each for each in found if each.tags.get("styleforge.chosen") == "true"]
    assert chosen.params["seed"] == "1234567" and chosen.name.endswith("seed-1234567")
