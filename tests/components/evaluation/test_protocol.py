import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.config import ScoringSection
from components.core.errors import InputError
from components.core.paths import write_json
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.features import Extractors
from components.evaluation.protocol import paired_replicates, read_bank, read_protocol, score_again, score_and_keep
from components.evaluation.yardstick import StyleRef
from tests.components.evaluation.conftest import FinishedRun, write_pictures
from tests.fixtures_models import tiny_clip_folder


def keep(run: FinishedRun, clip_folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    folders = {"style": changes.pop("pictures", run.root / "style"), "base": run.root / "base"}
    settings = ScoringSection(extractor=str(clip_folder), bootstrap=20, kid_subset_size=8, kid_subsets=5)
    reference = changes.pop("reference", run.reference)
    arguments: dict[str, Any] = {"reference_kind": "held-out", "settings": settings, "seed": 3, "tokens": ["sks"], "digests": {}}
    own = StyleRef([run.root / "style_set" / "images" / "style_ref" / f"{index}.png" for index in range(5)], ["a hat"] * 5)
    return score_and_keep(out, folders, reference, **{**arguments, "style_ref": own, **changes})


@pytest.fixture
def scored(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path / "evaluation"
    return folder, keep(finished_run, clip_folder, folder)


def test_the_same_pictures_get_the_same_scores_without_the_references_pictures(
    finished_run: FinishedRun, scored: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scores = scored
    moved = shutil.copytree(finished_run.root / "style", tmp_path / "elsewhere" / "pictures")
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "another-home"))  # No cache knows any picture there.
    again = score_again(folder, moved, ["sks"], tmp_path / "again")
    for metric, estimate in scores["style"].items():
        # Batches of other pictures round the features otherwise.
        assert again["style"][metric]["value"] == pytest.approx(estimate["value"], rel=1e-3, abs=1e-5)
        assert again["style"][metric]["n"] == estimate["n"]
    assert all(again["context"][key] == scores["context"][key] for key in ("extractor_id", "kid_subset_size"))


def test_what_must_be_equal_differs_with_the_bank_and_the_reference(
    finished_run: FinishedRun, scored: tuple[Path, dict[str, Any]], clip_folder: Path, tmp_path: Path
) -> None:
    rows, first = read_bank(scored[0]), read_protocol(scored[0])["same"]
    assert [row["id"] for row in rows] == [f"p{index}" for index in range(8)] and read_protocol(scored[0])["repeats"] == 2
    assert rows[3] == {"id": "p3", "category": "things", "prompt": "a photo of 3 <b>hats</b> & a man"}
    fewer = write_pictures(tmp_path / "fewer", (120, 20, 20), seed=0, prompts=7)
    for name, change, changed in (
        ("bank", {"pictures": fewer}, {"bank"}),
        ("reference", {"reference": finished_run.reference[:-1]}, {"reference_digest"}),
    ):
        keep(finished_run, clip_folder, tmp_path / name, **change)
        same = read_protocol(tmp_path / name)["same"]
        assert {key for key in first if same[key] != first[key]} == changed


def test_another_extractor_is_refused(scored: tuple[Path, dict[str, Any]], finished_run: FinishedRun, tmp_path: Path) -> None:
    other = Extractors(ClipEncoder(str(tiny_clip_folder(tmp_path / "other", seed=9))))
    with pytest.raises(InputError, match="is not the network that computed the scores"):
        score_again(scored[0], finished_run.root / "style", ["sks"], tmp_path / "again", extractors=other)
    assert not (tmp_path / "again").exists()


def test_differences_between_models_are_paired(finished_run: FinishedRun, scored: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, scores = scored
    score_again(folder, finished_run.root / "style", ["sks"], tmp_path / "same")
    other = score_again(folder, finished_run.root / "base", ["sks"], tmp_path / "base")["style"]["kid"]["value"]
    assert other == pytest.approx(scores["base"]["kid"]["value"], rel=1e-3) and other > scores["style"]["kid"]["value"]
    ours, same, base = (paired_replicates(place, 200) for place in (folder, tmp_path / "same", tmp_path / "base"))
    for metric in ("kid", "clip_t", "clip_i"):
        # One model against itself: every resample draws the same prompts and the same reference, so nothing is left.
        np.testing.assert_allclose(ours[metric], same[metric], rtol=1e-3, atol=1e-5)
        assert np.std(ours[metric]) > 0
    assert np.quantile(base["kid"] - ours["kid"], 0.025) > 0


def test_other_measures_are_another_protocol_and_an_evaluation_of_before_them_has_none(
    finished_run: FinishedRun, scored: tuple[Path, dict[str, Any]], clip_folder: Path, tmp_path: Path
) -> None:
    folder, scores = scored
    settings = ScoringSection(extractor=str(clip_folder), bootstrap=20, kid_subset_size=8, kid_subsets=5, measures=("copies",))
    keep(finished_run, clip_folder, tmp_path / "other", settings=settings)
    assert read_protocol(tmp_path / "other")["same"] != read_protocol(folder)["same"]
    # What an earlier version kept: no measures in its settings, one extractor, no yardstick.
    protocol = read_protocol(folder)
    known = ("measures", "style_extractor", "copy_extractor", "kd_extractor")
    protocol["scoring"] = {key: value for key, value in protocol["scoring"].items() if key not in known}
    write_json(folder / "protocol.json", {**protocol, "extractors": protocol["extractors"][:1]})
    (folder / "yardstick.safetensors").unlink()
    again = score_again(folder, finished_run.root / "style", ["sks"], tmp_path / "again")
    assert set(again["style"]) == {"kid", "fid", "clip_t", "clip_i"}
    assert again["style"]["kid"]["value"] == pytest.approx(scores["style"]["kid"]["value"], rel=1e-3, abs=1e-5)
