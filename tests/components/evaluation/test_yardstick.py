"""Measures of single images by a style's own: laws, and figures by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from components.core.errors import InputError
from components.evaluation.extractors.factory import make_extractor
from components.evaluation.metrics import Bootstrap, diversity_with_interval, to_unit
from components.evaluation.yardstick import Yardstick, check_apart, copy_limit, self_similarity, variants
from components.pocket.render import render

RNG = np.random.default_rng(0)


def a_style(n: int, shift: float = 3.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, 8)) + shift


def yardstick(own: np.ndarray, base: np.ndarray, reference: np.ndarray | None = None) -> Yardstick:
    made = Yardstick({})
    made.add_style(base, own, reference)
    return made


def test_the_style_score_by_hand() -> None:
    """A base of spread (1, 2) around (1, 1); StyleRef at 90° to one another after standardisation, so the scale is cos 90° … 45°."""
    base = np.array([[0.0, -1.0], [2.0, 3.0]])
    own = np.array([[2.0, 1.0], [2.0, 3.0]])  # standardised: (1, 0) and (1, 1), 45° apart
    drawn = np.array([[1.0, 9.0]])  # standardised: (0, 4), 90° from one and 45° from the other
    found = yardstick(own, base).values("style_score", drawn)
    assert found == pytest.approx([(0 + np.sqrt(0.5)) / 2 / np.sqrt(0.5)], abs=1e-6)


@given(st.integers(0, 100), st.floats(0.1, 50), st.floats(-20, 20))
def test_the_style_score_knows_neither_order_nor_scale_nor_place(seed: int, scale: float, place: float) -> None:
    base, own, drawn = a_style(20, 0.0, seed), a_style(6, 2.0, seed + 1), a_style(5, 1.0, seed + 2)
    one = yardstick(own, base).values("style_score", drawn)
    moved = [scale * rows + place for rows in (base[::-1], own[::-1], drawn)]
    other = yardstick(moved[1], moved[0]).values("style_score", moved[2])
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_base_is_at_zero_and_more_of_the_style_at_one() -> None:
    base, own, reference = a_style(400, 0.0, 3), a_style(20, 3.0, 4), a_style(60, 3.0, 5)
    made = yardstick(own, base, reference)
    for measure in ("style_score", "style_held_out"):
        assert made.values(measure, a_style(400, 0.0, 6)).mean() == pytest.approx(0.0, abs=0.05)
        assert made.values(measure, a_style(400, 3.0, 7)).mean() == pytest.approx(1.0, abs=0.05)


def test_a_feature_that_the_base_never_changes_does_not_count() -> None:
    base, own = a_style(30, 0.0, 1), a_style(6, 2.0, 2)
    base[:, 0] = 5.0
    drawn = a_style(4, 1.0, 3)
    other = drawn.copy()
    other[:, 0] = 1e6
    made = yardstick(own, base)
    np.testing.assert_allclose(made.values("style_score", drawn), made.values("style_score", other))


def test_what_cannot_be_measured_is_said_and_not_computed() -> None:
    made = yardstick(a_style(1), a_style(20, 0.0))
    assert not made.has("style_score") and "a single image" in made.notes[0]
    # Images of all directions are no more alike than the base's.
    made = yardstick(np.vstack([np.eye(8), -np.eye(8)]), a_style(50, 0.0))
    assert not made.has("style_score") and "hardly more alike than the base's" in made.notes[0]
    made = Yardstick({})
    made.add_copies(RNG.normal(size=(3, 2, 4)))
    made.add_captions(np.zeros((0, 4)))
    assert not made.has("copies") and not made.has("leakage")
    assert "3 StyleRef images are too few" in made.notes[0] and "no captions" in made.notes[1]


def test_the_limit_for_copies_by_hand() -> None:
    """Three images at 0°, 60° and 90°: the nearest neighbours are at 60°, 30° and 30°; a variant of the first lies at 50°."""
    angles = np.radians([[0, 50], [60, 60], [90, 90]])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    # Of the second the nearest is the first's variant, 10° away; that of the first is the second, whose variants are itself.
    nearest = np.cos(np.radians([60, 10, 30]))
    assert copy_limit(rows) == pytest.approx(np.quantile(nearest, 0.99))


def test_copies_mirrored_and_cropped_are_found_and_other_images_of_the_style_are_not() -> None:
    extractor = make_extractor("thumbnail", "test")
    own = [render(seed, "watercolor").image for seed in range(20)]
    made = Yardstick({})
    made.add_copies(np.stack([extractor.encode_images(variants(image)) for image in own]))

    def share(images: list[Image.Image]) -> float:
        return float(made.values("copies", extractor.encode_images(images)).mean())

    assert share(own) == share([ImageOps.mirror(image) for image in own]) == 100.0
    assert share([image.crop((0, 0, 52, 52)).resize((64, 64)) for image in own]) >= 90.0
    assert share([render(seed, "watercolor").image for seed in range(500, 600)]) <= 15.0


def test_variants_keep_the_size_and_begin_with_the_image() -> None:
    image = render(1, "photo").image.resize((60, 40))
    made = variants(image)
    assert len(made) == 12 and {item.size for item in made} == {(60, 40)} and made[0] == image and made[1] == ImageOps.mirror(image)


def test_leakage_is_a_caption_that_fits_better_than_the_prompt() -> None:
    captions, prompts = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]] * 3)
    made = Yardstick({})
    made.add_captions(captions)
    drawn = to_unit(np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(made.values("leakage", drawn, prompts), [100, 0, 0])


def test_it_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    made = yardstick(a_style(6), a_style(30, 0.0), a_style(9, 2.5))
    made.add_copies(RNG.normal(size=(6, 3, 4)))
    made.add_captions(to_unit(RNG.normal(size=(4, 5))))
    made.save(tmp_path / "y.safetensors")
    again = Yardstick.load(tmp_path / "y.safetensors")
    for measure, rows in (("style_score", a_style(7)), ("style_held_out", a_style(7)), ("copies", RNG.normal(size=(7, 4)))):
        np.testing.assert_allclose(made.values(measure, rows), again.values(measure, rows), rtol=1e-4)
    assert again.has("leakage") and not Yardstick.load(tmp_path / "none.safetensors").has("leakage")


def test_self_similarity_and_diversity_against_every_pair() -> None:
    rows = RNG.normal(size=(7, 5))
    unit = to_unit(rows)
    pairs = [float(unit[i] @ unit[j]) for i in range(7) for j in range(7) if i != j]
    assert self_similarity(unit) == pytest.approx(np.mean(pairs))
    found = diversity_with_interval(rows, None, Bootstrap(200))
    assert found.value == pytest.approx(100 * (1 - np.mean(pairs))) and found.low < found.value < found.high
    assert diversity_with_interval(np.ones((5, 3)), None, Bootstrap(50)).value == pytest.approx(0.0, abs=1e-9)


def test_the_interval_of_diversity_holds_the_truth() -> None:
    """A U-statistic's spread: an interval of the mean of each row's mean distance would be half as wide."""
    held = 0
    for seed in range(300):
        rows = np.random.default_rng(seed).normal([1.0, 0.0, 0.0], 1.0, (40, 3))
        found = diversity_with_interval(rows, None, Bootstrap(200, seed=seed, small_sample=True))
        held += found.low <= TRUE_DIVERSITY <= found.high
    assert 0.91 <= held / 300 <= 0.98


_MANY = to_unit(np.random.default_rng(99).normal([1.0, 0.0, 0.0], 1.0, (200_000, 3)))
TRUE_DIVERSITY = 100 * (1 - float(np.square(_MANY.mean(axis=0)).sum()))


def test_a_reference_that_holds_styleref_is_refused() -> None:
    with pytest.raises(InputError, match=r"b\.png is a\.png"):
        check_apart({Path("a.png"): "1", Path("c.png"): "2"}, {Path("b.png"): "1", Path("d.png"): "3"})
    check_apart({Path("a.png"): "1"}, {Path("b.png"): "2"})
