from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.config import ScoringSection
from components.core.images import load_rgb
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.extractors.colours import ColourExtractor
from components.evaluation.extractors.texture import TextureExtractor
from components.evaluation.metrics import to_unit
from components.evaluation.pictures import read_pictures
from components.evaluation.protocol import read_protocol, score_again, score_and_keep
from components.evaluation.truth import (
    MEASURES,
    OTHER_ARTISTS,
    Concepts,
    content_words,
    distances,
    drawn_by_both,
    pair_unseen,
    pair_up,
    pairs_array,
    spread,
    to_other_artists,
)
from components.evaluation.yardstick import StyleRef, Yardstick
from tests.components.evaluation.conftest import FinishedRun, picture


def test_a_prompt_asks_for_a_concept_where_that_is_all_it_says() -> None:
    prompts = {"p1": "a house", "p2": "a house by the river", "p3": "A River-House", "p4": "the", "p5": "a dog"}
    assert pair_up(prompts, ["House", "cat", None, "house of the river", "the house", ""]) == [("p1", 0), ("p1", 4), ("p2", 3), ("p3", 3)]
    assert content_words("In the HOUSE, a dog") == {"house", "dog"} and content_words(None) == frozenset()


def test_concepts_of_styleref_make_no_pairs() -> None:
    prompts = {"p1": "a house", "p2": "a dog", "p3": "the cat", "p4": "a cat"}
    concepts = Concepts(["House", "dog", "cat", "the house", None], style_ref=["HOUSES", "dog of the house", "a cat", "bird"])
    assert pair_unseen(prompts, concepts) == ([("p1", 0), ("p1", 3), ("p2", 1)], 1)
    assert pair_unseen(prompts, Concepts(concepts.reference)) == (pair_up(prompts, concepts.reference), 0)


def test_other_artists_by_hand() -> None:
    files = [Path(f"{name}.png") for name in "abcd"]
    concepts = Concepts(
        ["House", "dog", None, "the house", "cat"], others=dict(zip(files, ["a house", "cat", "house", "bird"], strict=True))
    )
    pairs = pair_up({"p1": "a house", "p2": "a house", "p3": "a dog"}, concepts.reference)
    assert drawn_by_both(pairs, concepts) == [([0, 3], [files[0], files[2]])]
    half = 100 * (1 - 1 / np.sqrt(2))
    own, theirs = to_unit(np.array([[1.0, 0.0], [0.0, 1.0]])), to_unit(np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert to_other_artists(own, theirs) == pytest.approx((0 + half + 100 + half) / 4)


def test_distances_by_hand() -> None:
    reference = to_unit(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    pairs = pairs_array([("a", 0), ("a", 2), ("b", 1)]).astype(np.float32)
    own, others = distances([[2.0, 0.0], [3.0, 3.0], [0.0, 5.0]], reference, pairs, ["a", "b", "nobody"])
    half = 100 * (1 - 1 / np.sqrt(2))
    assert own == pytest.approx([half / 2, half, np.nan], abs=1e-6, nan_ok=True)
    assert others == pytest.approx([100, half / 2, np.nan], abs=1e-6, nan_ok=True)
    # Each of the three to the mean of the two others.
    assert spread(reference, pairs) == pytest.approx([(100 + half) / 2, (100 + half) / 2, half], abs=1e-6)
    alone, none = distances([[1.0, 0.0]], reference[:1], pairs_array([("a", 0)]), ["a"])
    assert alone == pytest.approx([0]) and np.isnan(none).all() and len(spread(reference[:1], pairs_array([("a", 0)]))) == 0


def keep(run: FinishedRun, clip_folder: Path, out: Path, concepts: list[str | None] | Concepts, **settings: Any) -> dict[str, Any]:
    measures = settings.pop("measures", ("style_score", "truth"))
    shown = concepts if isinstance(concepts, Concepts) else Concepts(concepts)
    section = ScoringSection(extractor=str(clip_folder), bootstrap=20, kid_subset_size=8, kid_subsets=5, measures=measures)
    own = StyleRef([run.root / "style_set" / "images" / "style_ref" / f"{index}.png" for index in range(5)], [""] * 5)
    return score_and_keep(
        out, {"style": run.root / "style", "base": run.root / "base"}, run.reference, reference_kind=settings.get("kind", "held-out"),
        settings=section, seed=3, tokens=["sks"], digests={}, style_ref=own, concepts=shown,
    )  # fmt: skip


CONCEPTS: list[str | None] = ["photo 0 b hats b man", "photo 3 b hats b man", *[None] * 10]
"""What prompts p0 and p3 ask for, word by word."""


def test_pictures_are_held_against_the_artists_own(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> None:
    scores = keep(finished_run, clip_folder, tmp_path / "kept", CONCEPTS)
    clip = ClipEncoder(str(clip_folder), None)
    reference = to_unit(np.asarray(clip.encode_images([load_rgb(path) for path in finished_run.reference]), float))
    for side in ("style", "base"):
        pairs = [(p, place) for place, key in ((0, "p0"), (1, "p3")) for p in read_pictures(finished_run.root / side) if p.prompt_id == key]
        drawn = to_unit(np.asarray(clip.encode_images([load_rgb(picture.path) for picture, _ in pairs]), float))
        expected = np.mean([100 * (1 - row @ reference[place]) for row, (_, place) in zip(drawn, pairs, strict=True)])
        found = scores[side]["truth"]
        assert found["value"] == pytest.approx(expected, abs=1e-3) and found["n"] == 4 and found["low"] <= found["value"] <= found["high"]
        assert scores[side]["truth_style"]["n"] == 4
    # The model draws in the artist's colours, the base does not.
    assert scores["style"]["truth_style"]["value"] < scores["base"]["truth_style"]["value"]
    assert set(scores["measures"]["truth"]) == set(MEASURES) <= set(scores["measures"]["reference"])
    again = score_again(tmp_path / "kept", finished_run.root / "style", ["sks"], tmp_path / "again")
    for name in MEASURES:
        assert again["style"][name]["value"] == pytest.approx(scores["style"][name]["value"], rel=1e-3, abs=1e-3)
    # Other pairs are another measure.
    other = keep(finished_run, clip_folder, tmp_path / "other", CONCEPTS[::-1])
    assert other["style"]["truth"]["value"] != scores["style"]["truth"]["value"]
    assert read_protocol(tmp_path / "other")["same"] != read_protocol(tmp_path / "kept")["same"]


def test_other_artists_drawings_are_a_yardstick(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> None:
    others = {tmp_path / f"{name}.png": concept for name, concept in (("a", "photo 0 b hats b man"), ("b", CONCEPTS[0]), ("c", "a dog"))}
    for seed, path in enumerate(others):
        picture(seed, (0, 0, 200)).save(path)
    # What is not paired is not even read.
    others[tmp_path / "absent.png"] = "a bird"
    scores = keep(finished_run, clip_folder, tmp_path / "kept", Concepts(CONCEPTS, others=others))
    found = scores["measures"]["other_artists"]
    clip = ClipEncoder(str(clip_folder), None)
    own, *theirs = to_unit(
        np.asarray(clip.encode_images([load_rgb(path) for path in (finished_run.reference[0], *list(others)[:2])]), float)
    )
    assert set(found) == set(MEASURES)
    assert found["truth"]["value"] == pytest.approx(np.mean([100 * (1 - row @ own) for row in theirs]), abs=1e-3)
    # One concept of the two that are paired.
    assert found["truth"]["n"] == 1 and scores["style"]["truth"]["n"] == 4
    # Blue, where the artist is not.
    assert found["truth_colours"]["value"] > scores["measures"]["reference"]["truth_colours"]["value"]
    # A yardstick is no measure of a model: two models are comparable whether it is there or not.
    without = keep(finished_run, clip_folder, tmp_path / "without", CONCEPTS)
    assert "other_artists" not in without["measures"] and without["style"] == scores["style"]
    assert read_protocol(tmp_path / "without")["same"] == read_protocol(tmp_path / "kept")["same"]
    for name in ("kept", "without"):
        again = score_again(tmp_path / name, finished_run.root / "style", ["sks"], tmp_path / f"{name}-again")
        assert again["style"]["truth"]["value"] == pytest.approx(scores["style"]["truth"]["value"], abs=1e-3)


def test_a_kept_yardstick_of_before_still_scores(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> None:
    others = {finished_run.root / "style_set" / "images" / "style_ref" / "0.png": "photo 0 b hats b man"}
    scores = keep(finished_run, clip_folder, tmp_path / "kept", Concepts(CONCEPTS, others=others))
    yardstick = Yardstick.load(tmp_path / "kept" / "yardstick.safetensors")
    assert f"truth{OTHER_ARTISTS}" in yardstick.arrays
    Yardstick({name: array for name, array in yardstick.arrays.items() if not name.endswith(OTHER_ARTISTS)}).save(
        tmp_path / "kept" / "yardstick.safetensors"
    )
    again = score_again(tmp_path / "kept", finished_run.root / "style", ["sks"], tmp_path / "again")
    assert again["style"]["truth"]["value"] == pytest.approx(scores["style"]["truth"]["value"], abs=1e-3)


def test_what_styleref_shows_is_left_out_and_said(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> None:
    scores = keep(finished_run, clip_folder, tmp_path / "kept", Concepts(CONCEPTS, style_ref=["Photo 3 b hats b man", "a dog"]))
    assert scores["style"]["truth"]["n"] == 2
    assert "truth: 1 concept is left out: StyleRef shows how the artist draws it" in scores["measures"]["notes"]
    both = Concepts(CONCEPTS, style_ref=[concept for concept in CONCEPTS if concept])
    notes = keep(finished_run, clip_folder, tmp_path / "none", both)["measures"]["notes"]
    assert [note[:25] for note in notes if note.startswith("truth: ")] == ["truth: no prompt asks for", "truth: 2 concepts are lef"]


def test_colours_and_lines_are_apart() -> None:
    """An image in other colours is far in colours, one with another pattern in lines."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = (200, 40, 40)
    blocks = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((16, 16)))[..., None] * np.array([200, 40, 40])
    images = {"own": stripes, "recoloured": stripes[..., ::-1], "coarse": blocks.astype(np.uint8)}
    noise = [np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8) // (1 + seed) for seed in range(8)]
    found = {}
    for measure, extractor in (("truth_colours", ColourExtractor()), ("truth_lines", TextureExtractor())):

        def features(arrays: Iterable[np.ndarray], extractor: Any = extractor) -> np.ndarray:
            return extractor.encode_images([Image.fromarray(array) for array in arrays])

        yardstick = Yardstick({})
        yardstick.add_truth(dict.fromkeys(MEASURES, features([stripes])), features([*images.values(), *noise]), [("p", 0)])
        found[measure] = dict(zip(images, yardstick.to_the_artist(measure, features(images.values()), ["p"] * 3)[0], strict=True))
    assert found["truth_colours"]["recoloured"] > 40 and found["truth_colours"]["coarse"] < 5
    assert found["truth_lines"]["coarse"] > 3 * found["truth_lines"]["recoloured"]
    assert found["truth_colours"]["own"] == pytest.approx(0, abs=1e-6) == found["truth_lines"]["own"]


@pytest.mark.parametrize(("concepts", "kind"), [(["a cat"] * 12, "held-out"), ([], "held-out"), (CONCEPTS, "style_ref")])
def test_without_pairs_it_is_said(
    finished_run: FinishedRun, clip_folder: Path, tmp_path: Path, concepts: list[str | None], kind: str
) -> None:
    scores = keep(finished_run, clip_folder, tmp_path / "kept", concepts, kind=kind)
    assert "truth" not in scores["style"] and "truth" not in scores["measures"]
    assert any(note.startswith("truth: no prompt") for note in scores["measures"]["notes"])


def test_nothing_changes_where_it_is_not_asked_for(finished_run: FinishedRun, clip_folder: Path, tmp_path: Path) -> None:
    with_concepts = keep(finished_run, clip_folder, tmp_path / "a", CONCEPTS, measures=("style_score",))
    assert with_concepts == keep(finished_run, clip_folder, tmp_path / "b", [], measures=("style_score",))
    assert not set(MEASURES) & set(with_concepts["style"])
    alone = keep(finished_run, clip_folder, tmp_path / "c", CONCEPTS, measures=("truth",))
    assert "truth" in alone["style"] and "truth_style" not in alone["style"]
    assert any(note.startswith("truth_style: ") for note in alone["measures"]["notes"])
