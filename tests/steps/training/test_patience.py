"""What ends a training early: the rule of select, over candidates as they are made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.content import digest_folder
from components.core.paths import read_json
from components.diffusion.training.fine_tuning import fine_tune
from components.evaluation.selection import Option, Point
from components.evaluation.significance import Resampled
from steps.io.artifacts import Folder
from steps.training.patience import Patience, patience_for
from tests.components.diffusion.conftest import configure, write_folders
from tests.fixtures_models import tiny_clip_folder, tiny_sd_folder
from tests.steps.training.test_select import BANK, whole_manifest


def patience(style_set: Path, base: Path, clip: Path, bank: Path, **selection: Any) -> Patience:
    watch = {
        "concepts": [{"token": "sks", "categories": None}], "tokens": ["sks"], "bank": "digest", "weights": {}, "code": "digest",
        "sampling": {"bank": str(bank), "repeats": 1, "steps": 2, "guidance": 2.5, "batch_size": 4},
        "scoring": {"extractor": str(clip), "bootstrap": 5, "kid_subsets": 3, "kid_subset_size": 4},
        "selection": {"candidates": 6, "patience": 2, "clip_t_margin": 1.0, **selection},
    }  # fmt: skip
    return patience_for(Folder(style_set), 3, {"model": str(base), "precision": {}, "digest": "base"}, **watch)


def record(step: int, kid: float, clip_t: float = 30.0, spread: float = 1e-4) -> dict[str, Any]:
    replicates = kid + spread * np.random.default_rng(step).standard_normal(200)
    scores = {"kid": {"value": kid}, "clip_t": {"value": clip_t}}
    option = Option(Point(step, 2.5), scores, Resampled(kid, replicates))
    # Through the file that keeps it.
    return {"baseline": 30.0, **json.loads(json.dumps(option.as_json()))}


@pytest.mark.parametrize(
    ("kids", "over"),
    [
        ([0.9], False), ([0.9, 0.5, 0.6], False), ([0.9, 0.5, 0.6, 0.7], True), ([0.9, 0.5, 0.6, 0.4], False), ([0.5, 0.6], False),
        ([0.5, 0.6, 0.7], True),
    ],
)  # fmt: skip
def test_over_once_the_best_is_as_old_as_the_patience(tmp_path: Path, kids: list[float], over: bool) -> None:
    rule = patience(tmp_path, tmp_path, tmp_path, tmp_path, clip_t_margin=0.1)
    assert rule.is_over([record(100 * number, kid) for number, kid in enumerate(kids, 1)]) is over


def test_one_that_ties_with_an_earlier_one_is_no_better_and_one_outside_the_limits_is_not_the_best(tmp_path: Path) -> None:
    rule = patience(tmp_path, tmp_path, tmp_path, tmp_path, clip_t_margin=0.1)
    ties = [record(1, 0.5000, spread=0.1), record(2, 0.4999, spread=0.1), record(3, 0.4998, spread=0.1)]
    assert rule.is_over(ties)
    assert not rule.is_over([record(1, 0.1, clip_t=20.0), record(2, 0.9), record(3, 0.8)])


def test_what_is_kept_of_a_candidate_is_read_back_as_it_was() -> None:
    option = Option(Point(4, 2.0, 1.5), {"kid": {"value": 0.5, "n": 8}}, Resampled(0.5, np.array([0.25, np.nan, np.inf, 0.75])))
    again = Option.from_json(json.loads(json.dumps(option.as_json(), allow_nan=False)))
    assert (again.at, again.scores) == (option.at, option.scores) and again.replicates is not None
    assert again.replicates.value == 0.5 and np.array_equal(again.replicates.replicates, [0.25, np.nan, np.nan, 0.75], equal_nan=True)
    assert Option.from_json(Option(Point(4, 2.0), {}).as_json()).replicates is None


def test_a_training_is_judged_as_select_judges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    base, clip, bank = tiny_sd_folder(tmp_path / "base"), tiny_clip_folder(tmp_path / "clip"), tmp_path / "bank.tsv"
    bank.write_text(BANK)
    folders = write_folders(tmp_path / "run")
    whole_manifest(folders)
    watch = patience(folders.style_set, base, clip, bank, patience=1, confidence=0.999)
    config = configure(base, training={"learning_rate": 1e-8}, selection={"candidates": 6})
    model = fine_tune(config, *folders.inputs, folders.out, folders.checkpoints, watch=watch)
    # Nothing is learnt, so the second candidate ties with the first.
    assert read_json(model / "styleforge.json")["training"]["ended_at"] == 2
    kept = [read_json(file) for file in sorted((folders.checkpoints / "candidates").glob("*.json"))]
    assert [record["at"] for record in kept] == [{"step": 1, "guidance": 2.5}, {"step": 2, "guidance": 2.5}]
    assert all(set(record["scores"]) == {"kid", "clip_t"} and record["scores"]["clip_t"]["n"] == 4 for record in kept)
    # The base's pictures are drawn once, for all styles.
    pictures = list((tmp_path / "home" / "cache" / "selection").glob("*/images/*.png"))
    assert len(pictures) == 4 and digest_folder(watch.bank.draw_base()) == digest_folder(pictures[0].parents[1])
