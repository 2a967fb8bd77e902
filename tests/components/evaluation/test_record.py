import json
from pathlib import Path

import numpy as np
import pytest

from components.core.config import ScoringSection
from components.evaluation.protocol import score_and_keep
from components.evaluation.record import WALL, Record, _cost, read_record, resample, saved_bytes, write_record
from components.evaluation.replicates import prompt_weights
from tests.components.evaluation.conftest import FinishedRun


@pytest.fixture(scope="module")
def record(finished_run: FinishedRun, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEFORGE_HOME", str(tmp_path_factory.mktemp("home")))
        root, out = finished_run.root, tmp_path_factory.mktemp("record")
        settings = ScoringSection(extractor=str(clip_folder), bootstrap=50, kid_subsets=3, kid_subset_size=16)
        folders, reference = {name: root / name for name in ("style", "base")}, finished_run.reference
        score_and_keep(out / "scores", folders, reference, reference_kind="held-out", settings=settings, seed=0, tokens=["sks"], digests={})
        write_record(
            out / "cell", evaluation=out / "scores", model=root / "model", style_pictures=root / "style", base_pictures=root / "base"
        )
        return read_record(out / "cell")


def test_resampling_is_around_the_scores(record: Record) -> None:
    found = resample(record, 400, 0)
    assert set(found) == {"kid", "clip_t", "clip_i"}
    for name, values in found.items():
        score_ = record.scores["style"][name]
        assert values.value == score_["value"] and values.replicates.shape == (400,)
        # The same prompts are resampled as in the score's own interval, so both tell the same width.
        width = np.quantile(values.replicates, 0.975) - np.quantile(values.replicates, 0.025)
        assert width == pytest.approx(score_["high"] - score_["low"], rel=0.5)
    assert found["clip_t"].replicates.mean() == pytest.approx(found["clip_t"].value, abs=0.2)


def test_wall_takes_categories_in_turn_and_has_the_base_beside(record: Record) -> None:
    assert len(record.wall) == 8 <= WALL
    assert [shown.category for shown in record.wall[:4]] == ["people", "things", "people", "things"]
    assert all(shown.style.is_file() and shown.base is not None and shown.base.is_file() for shown in record.wall)


def test_arrays_are_safetensors_and_times_stand_apart(record: Record) -> None:
    assert {path.name for path in record.folder.iterdir()} == {"cell.json", "values.safetensors", "timing.json", "wall"}
    assert "seconds" not in json.dumps(json.loads((record.folder / "cell.json").read_text())["scores"])


def test_an_interrupted_training_is_reckoned_to_all_its_steps_and_its_log_is_not_saved(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "styleforge.json").write_text('{"training": {"steps": 400}}')
    (tmp_path / "training" / "timing.json").write_text('{"seconds": 30.0, "resumed_from": 100, "peak_memory_bytes": 5}')
    # 300 of 400 steps took 30 s in this process, so all of them take 40.
    cost = _cost(tmp_path)
    assert (cost["seconds"], cost["resumed"], cost["peak_memory_bytes"]) == (40.0, True, 5)
    assert _cost(tmp_path / "nowhere")["seconds"] is None
    assert saved_bytes(tmp_path) == 1000 + len('{"training": {"steps": 400}}')


def test_records_do_not_depend_on_the_pictures_order() -> None:
    weights = prompt_weights(["b", "a", "b", "c"], 50, 0)
    again = prompt_weights(["a", "b", "c", "b"], 50, 0)
    assert np.array_equal(weights[[1, 0, 3]], again[[0, 1, 2]]) and np.array_equal(weights[0], weights[2])
    assert np.array_equal(weights[[0, 1, 3]].sum(axis=0), np.full(50, 3.0))
