"""The verdict on the data, on sets whose truth is known."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.config import ExamineSection
from components.core.content import derive_seed
from components.evaluation.examination import Examination, SetPicture, examine_pictures, figure_text
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.set_verdict import Finding, SetFigures, find, limit, psnr, separability, spread
from components.evaluation.style_reader import StyleReader
from components.pocket.media import STYLES
from components.pocket.render import plain_sample, render

SETTINGS = ExamineSection()
RNG = np.random.default_rng(0)


def pictures(*styles: str, of_each: int = 20, seed: int = 1) -> list[Image.Image]:
    """Half characters and half backgrounds of each style."""
    plan = [(style, role, index) for style in styles for role in ("character", "background") for index in range(of_each // 2)]
    return [plain_sample(derive_seed(seed, "examined", *cell), cell[0], cell[1]).image for cell in plan]


def figures(**changes: Any) -> SetFigures:
    n = 20
    roles = ["character"] * 10 + ["background"] * 10
    base = SetFigures(
        [f"{place}.png" for place in range(n)], roles, 0.9, range(n), np.ones(n), RNG.normal(size=(n, 8)),
        (RNG.normal(size=(n, 8)) + 3, RNG.normal(size=(n, 8))), [30.0] * n, True,
    )  # fmt: skip
    return replace(base, **changes)


def found(**changes: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in find(figures(**changes), SETTINGS)}


def test_separability_is_half_by_chance_and_one_apart() -> None:
    x, y = RNG.normal(size=(2, 400, 20, 64))
    # The mean over sets of what cannot be told is unbiased, though 64 features of 20 pictures tell any two sets apart.
    assert np.mean([separability(a, b) for a, b in zip(x, y, strict=True)]) == pytest.approx(0.5, abs=0.02)
    assert separability(x[0] + 2, y[0]) == 1.0
    order = RNG.permutation(20)
    assert separability(x[0][order], y[0][order]) == separability(x[0], y[0])


def test_spread_and_psnr_by_hand() -> None:
    assert spread([[2.0, 0.0], [0.0, 5.0]]) == pytest.approx(1.0)
    assert spread([[1.0, 1.0], [3.0, 3.0]]) == pytest.approx(0.0)
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black + np.uint8(255)) == pytest.approx(0.0) and psnr(black, black) == 99.0


def test_a_good_set_passes_every_question() -> None:
    assert all(finding.good for finding in found().values())
    assert Examination(find(figures(), SETTINGS), 20, "x").headline == "This set can be learned."


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("coherence", {"one_style": 0.2}),
        ("separability", {"pairs": (np.ones((20, 2)), np.ones((20, 2)))}),
        ("narrowness", {"content": np.ones((20, 4)) + np.arange(20)[:, None] * [0.001, 0, 0, 0]}),
        ("ceiling", {"psnr": [18.0] * 20}),
    ],
)
def test_each_figure_speaks_for_itself(name: str, changes: dict[str, Any]) -> None:
    verdict = found(**changes)
    assert [key for key, finding in verdict.items() if not finding.good] == [name]
    finding = verdict[name]
    assert finding.value is not None and finding.value < finding.threshold and finding.says and finding.advice


def test_the_picture_that_is_unlike_the_rest_is_named() -> None:
    verdict = found(strangeness=np.array([*RNG.uniform(0, 3, 19), 12.0]))["coherence"]
    assert verdict.good is False and [named.path for named in verdict.pictures] == ["19.png"]
    # The figure that misses its threshold is shown, not the probability of one style, which passes.
    assert (verdict.value, verdict.threshold, verdict.at_most) == (12.0, SETTINGS.outlier, True)
    assert figure_text(asdict(verdict)) == "12.0 × the usual distance (at most 5.0; n = 20)"
    fine = found()["coherence"]
    assert (fine.value, fine.threshold, fine.at_most) == (0.9, SETTINGS.coherence, False)
    assert figure_text(asdict(found()["ceiling"])) == "30.0 dB (at least 22.0; n = 20)"


def test_three_pictures_are_said_and_not_computed() -> None:
    few = {
        "paths": ["a", "b", "c"],
        "roles": ["character"] * 3,
        "one_style": None,
        "order": range(3),
        "strangeness": np.zeros(3),
        "content": np.ones((3, 2)),
    }
    verdict = found(**few, pairs=(np.ones((3, 2)), np.ones((3, 2))), psnr=[])
    assert all(finding.value is None and finding.good is None and "Not measured" in finding.says for finding in verdict.values())
    assert "the base was not asked" in found(asked_base=False, psnr=[], pairs=None)["ceiling"].says


@pytest.mark.parametrize(
    ("level", "changes", "what"),
    [
        ("good", {}, "Nothing"), ("bad", {}, "The recipe"), ("bad", {"psnr": [18.0] * 20}, "The base. "),
        ("mixed", {"one_style": 0.1}, "The set. "), ("bad", {"pairs": (np.ones((20, 2)), np.ones((20, 2)))}, "The base knows"),
        ("good", {"one_style": 0.1}, "Little"), ("bad", {"strangeness": np.array([*np.ones(19), 12.0])}, "The recipe"),
    ],
)  # fmt: skip
def test_what_limits_a_trained_model(level: str, changes: dict[str, Any], what: str) -> None:
    findings = Examination(find(figures(**changes), SETTINGS), 20, "x").as_json()["findings"]
    assert limit(findings, level).startswith(what)


def one_style(images: Sequence[Image.Image]) -> float:
    reader = StyleReader.load()
    return reader.one_style(reader.read(images))


@pytest.mark.parametrize("styles", [["anime", "realism"], pytest.param(list(STYLES), marks=pytest.mark.slow)])
def test_two_styles_mixed_are_told_from_one(styles: list[str]) -> None:
    """The space was learned on media, and the weights on media and real art: these styles are new to both."""
    alone = [one_style(pictures(style)) for style in styles]
    mixed = [one_style(pictures(*pair, of_each=10)) for pair in itertools.combinations(styles, 2)]
    assert sum(value < SETTINGS.coherence for value in alone) <= len(alone) // 6
    assert sum(value >= SETTINGS.coherence for value in mixed) <= len(mixed) // 15


def test_a_picture_of_another_kind_is_named_by_the_reader() -> None:
    images = pictures("pixel-art")
    images[7] = pictures("romanticism", of_each=2)[0]
    strangeness = StyleReader.load().read(images).strangeness()
    assert [place for place, value in enumerate(strangeness) if value > SETTINGS.outlier] == [7]


@pytest.fixture(scope="module")
def clip() -> ClipEncoder:
    return ClipEncoder("pocket")


def one_scene(style: str, role: str) -> list[Image.Image]:
    scene = plain_sample(derive_seed(2, "scene", style, role), style, role).scene
    return [render(derive_seed(2, "scene", style, role, index), style, scene=scene).image for index in range(10)]


@pytest.mark.parametrize("style", [pytest.param(style, marks=[pytest.mark.slow] * (place > 1)) for place, style in enumerate(STYLES)])
def test_a_set_of_one_scene_is_narrow(style: str, clip: ClipEncoder) -> None:
    def narrowness(make: Callable[[str], list[Image.Image]]) -> bool | None:
        made = [
            SetPicture(f"{role}-{index}", role, None, image)
            for role in ("character", "background")
            for index, image in enumerate(make(role))
        ]
        verdict = examine_pictures(made, SETTINGS, clip, asked_base=False)
        return next(finding.good for finding in verdict.findings if finding.name == "narrowness")

    assert narrowness(lambda role: one_scene(style, role)) is False
    assert narrowness(lambda role: [plain_sample(derive_seed(3, style, role, index), style, role).image for index in range(10)]) is True
