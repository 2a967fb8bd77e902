import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.config import ScoringSection
from components.core.content import derive_seed
from components.core.errors import InputError
from components.core.images import load_rgb
from components.evaluation import extraction, metrics
from components.evaluation.extraction import extract
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.extractors.factory import make_extractor
from components.evaluation.pictures import read_pictures
from components.evaluation.scoring import score, without_tokens
from components.evaluation.yardstick import StyleRef
from tests.components.evaluation.conftest import FinishedRun


def settings(clip_folder: Path, **changes: Any) -> ScoringSection:
    return ScoringSection(**{"extractor": str(clip_folder), "bootstrap": 20, "kid_subset_size": 8, "kid_subsets": 5, **changes})


def run_score(run: FinishedRun, clip_folder: Path, folders: dict[str, Path] | None = None, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"reference": run.reference, "settings": settings(clip_folder), "seed": 0, "tokens": ["sks"]}
    drawn = {name: run.root / name for name in ("style", "base", "plain")}
    return score(drawn | (folders or {}), **{**arguments, **changes})[0]


def test_scores_have_the_shape_that_others_rely_on(finished_run: FinishedRun, clip_folder: Path) -> None:
    scores = run_score(finished_run, clip_folder)
    json.dumps(scores, allow_nan=False)
    for model in ("style", "base"):
        assert set(scores[model]) == {"kid", "fid", "clip_t", "clip_i", "diversity"}
        for estimate in scores[model].values():
            assert set(estimate) == {"value", "low", "high", "n"} and estimate["n"] == 16
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
    assert scores["style"]["kid"]["value"] < scores["base"]["kid"]["value"]
    assert scores["style"]["clip_i"]["value"] > scores["base"]["clip_i"]["value"]
    assert set(scores["drift"]) >= {"clip_t", "clip_t_base", "kid_to_base"}
    assert scores["drift"]["clip_t_base"] == scores["base"]["clip_t"]
    assert list(scores["by_category"]) == ["people", "things"] and scores["by_category"]["people"]["clip_t"]["n"] == 8
    context = scores["context"]
    assert context["kid_subset_size"] == 8 and context["reference_n"] == 12 and context["reference"] == "held-out"
    assert context["versions"]["torch"] and context["resize"] and context["extractor_id"].startswith("clip:")
    assert set(scores["digests"]) == {"style", "base", "plain", "reference"}
    # By the formulae:
    encoder, pictures = ClipEncoder(str(clip_folder)), read_pictures(finished_run.root / "style")
    images, reference = (encoder.encode_images([load_rgb(p) for p in ps]) for ps in ([p.path for p in pictures], finished_run.reference))
    clip_t, clip_i = (
        metrics.clip_t_values(images, encoder.encode_texts([p.prompt for p in pictures])),
        metrics.clip_i_values(images, reference),
    )
    assert scores["style"]["clip_t"]["value"] == pytest.approx(clip_t.mean(), rel=1e-4)
    assert scores["style"]["clip_i"]["value"] == pytest.approx(clip_i.mean(), rel=1e-4)
    root = np.sqrt(encoder.dimension)
    assert scores["style"]["fid"]["value"] == pytest.approx(metrics.fid(images * root, reference * root), rel=1e-3)


def test_the_same_run_gives_the_same_scores_and_asks_nothing_twice(
    finished_run: FinishedRun, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_score(finished_run, clip_folder)
    monkeypatch.setattr(extraction, "decode_rgb", lambda *_: pytest.fail("decoded although all features are known"))
    assert run_score(finished_run, clip_folder) == first
    other = run_score(finished_run, clip_folder, seed=1)
    assert other["style"]["clip_t"]["value"] == first["style"]["clip_t"]["value"]
    assert other["style"]["clip_t"]["low"] != first["style"]["clip_t"]["low"]


def test_each_picture_is_decoded_once_for_all_extractors(finished_run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    class Means:
        name, resize, batch_size = "means", "none", 4

        def __init__(self, identifier: str) -> None:
            self.id, self.seen = identifier, 0

        def encode_images(self, images: Any) -> Any:
            self.seen += len(images)
            return np.array([np.asarray(image).mean(axis=(0, 1)) for image in images], np.float32)

    decoded: list[str] = []
    real = extraction.decode_rgb
    monkeypatch.setattr(extraction, "decode_rgb", lambda content, name: (decoded.append(name), real(content, name))[1])
    extractors = [Means("a"), Means("b")]
    paths = [*finished_run.reference, *finished_run.reference]
    copy = finished_run.root / "copy.png"
    shutil.copy(finished_run.reference[0], copy)
    table = extract([*paths, copy], extractors, 5)
    assert len(decoded) == len(set(decoded)) == 12 and [e.seen for e in extractors] == [12, 12]
    by_hand = np.asarray(real(copy.read_bytes(), "x")).mean(axis=(0, 1))
    assert table.of(extractors[0], [copy])[0] == pytest.approx(by_hand, rel=1e-5)
    copy.unlink()


def test_clip_t_leaves_out_rare_tokens(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> None:
    marked = shutil.copytree(finished_run.root / "style", tmp_path / "marked")
    text = (marked / "metadata.jsonl").read_text().replace('"prompt": "a', '"prompt": "sks a')
    (marked / "metadata.jsonl").write_text(text)
    clean, with_token = run_score(finished_run, clip_folder), run_score(finished_run, clip_folder, {"style": marked})
    assert with_token["style"]["clip_t"]["value"] == pytest.approx(clean["style"]["clip_t"]["value"])


@pytest.mark.parametrize(
    ("prompt", "tokens", "clean"),
    [
        ("a sks man", ["sks"], "a man"),
        ("a man, sks, at sea", ["sks"], "a man,, at sea"),
        ("sks style, a man", ["sks", "olis"], "style, a man"),
        ("risks and sksy", ["sks"], "risks and sksy"),
        ("<v1> a house", ["<v1>"], "a house"),
    ],
)
def test_tokens_are_whole_words(prompt: str, tokens: list[str], clean: str) -> None:
    assert without_tokens(prompt, tokens).replace(",,", ",") == clean.replace(",,", ",")


def test_an_unreadable_picture_and_too_small_a_reference_are_refused(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("this is text")
    few = finished_run.reference[:1]
    for reference, message in (([*few, tmp_path / "bad.png"], r"bad\.png: not an image"), (few, "at least two images")):
        with pytest.raises(InputError, match=message):
            run_score(finished_run, clip_folder, reference=reference)


def test_folders_without_listing_or_with_missing_pictures_are_refused(finished_run: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no metadata\.jsonl"):
        read_pictures(tmp_path)
    folder = shutil.copytree(finished_run.root / "style", tmp_path / "style")
    (folder / "images" / "p3-r1.png").unlink()
    with pytest.raises(InputError, match=r"p3-r1\.png: the image is listed but missing"):
        read_pictures(folder)
    (folder / "metadata.jsonl").write_text("")
    with pytest.raises(InputError, match="lists no image"):
        read_pictures(folder)


def style_ref(run: FinishedRun) -> StyleRef:
    return StyleRef([run.root / "style_set" / "images" / "style_ref" / f"{index}.png" for index in range(5)], ["0 hats", "", "", "", ""])


def test_measures_stand_beside_the_scores_and_change_no_bit_of_them(finished_run: FinishedRun, clip_folder: Path) -> None:
    asked = settings(clip_folder, measures=("style_score", "copies", "leakage", "diversity", "cmmd"), kd_extractor="thumbnail")
    with_measures = run_score(finished_run, clip_folder, settings=asked, style_ref=style_ref(finished_run))
    without = run_score(finished_run, clip_folder, settings=settings(clip_folder, measures=()), style_ref=style_ref(finished_run))
    json.dumps(with_measures, allow_nan=False)
    measures = {"style_score", "style_held_out", "copies", "leakage", "diversity", "cmmd", "kd"}
    for model in ("style", "base"):
        assert set(with_measures[model]) == {*without[model], *measures}
        assert {key: with_measures[model][key] for key in without[model]} == without[model]
        for name in measures:
            estimate = with_measures[model][name]
            assert estimate["low"] <= estimate["value"] <= estimate["high"] and estimate["n"] == 16
    assert {key: with_measures["drift"][key] for key in without["drift"]} == without["drift"]
    style, base = with_measures["style"], with_measures["base"]
    assert style["style_score"]["low"] > base["style_score"]["high"] and style["style_held_out"]["low"] > base["style_held_out"]["high"]
    assert base["style_score"]["value"] == pytest.approx(0.0, abs=0.2)
    # The pictures without the token are like the base's, so all of the style comes by the token.
    binding = with_measures["drift"]["binding"]
    assert binding["n"] == 16 and binding["value"] > 0.5
    assert binding["value"] == pytest.approx(style["style_score"]["value"] - with_measures["drift"]["style_score"]["value"])
    assert set(with_measures["by_category"]["people"]) >= {"style_score", "style_score_base", "copies"}
    found = with_measures["measures"]
    assert set(found["reference"]) == {"style_score", "copies"} and found["reference"]["style_score"]["n"] == 12 and found["notes"] == []
    assert with_measures["context"]["measures"]["extractors"] == {"style": "look", "copy": "thumbnail", "kd": "thumbnail"}
    assert "measures" not in without and "measures" not in without["context"]


def test_kd_is_kid_in_other_features(finished_run: FinishedRun, clip_folder: Path) -> None:
    scores = run_score(finished_run, clip_folder, settings=settings(clip_folder, measures=(), kd_extractor="thumbnail"))
    extractor = make_extractor("thumbnail", "test")
    drawn, reference = (
        extractor.encode_images([load_rgb(path) for path in paths]) * np.sqrt(192)
        for paths in ([picture.path for picture in read_pictures(finished_run.root / "style")], finished_run.reference)
    )
    expected = metrics.kid(drawn, reference, subset_size=8, subsets=5, seed=derive_seed(0, "kid subsets"))
    assert scores["style"]["kd"]["value"] == pytest.approx(expected, rel=1e-4)


def test_a_reference_that_holds_a_picture_of_styleref_is_refused(finished_run: FinishedRun, clip_folder: Path) -> None:
    own = style_ref(finished_run)
    with pytest.raises(InputError, match="contains images of StyleRef"):
        run_score(finished_run, clip_folder, reference=[*finished_run.reference, own.paths[2]], style_ref=own)


def test_without_a_held_out_reference_the_style_is_measured_by_styleref_alone(finished_run: FinishedRun, clip_folder: Path) -> None:
    own = style_ref(finished_run)
    scores = run_score(finished_run, clip_folder, reference=own.paths, reference_kind="style_ref", style_ref=own)
    assert "style_score" in scores["style"] and "style_held_out" not in scores["style"] and scores["measures"]["reference"] == {}
