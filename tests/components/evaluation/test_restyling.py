from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.config import ScoringSection
from components.core.metrics import SPECS
from components.core.paths import write_json
from components.evaluation import restyle_page
from components.evaluation.extractors.factory import make_extractor
from components.evaluation.protocol import PROTOCOL, YARDSTICK
from components.evaluation.restyle_page import write_restyle_page
from components.evaluation.restyling import MEASURES, Judge
from components.evaluation.yardstick import Yardstick
from tests.components.evaluation.conftest import picture

RED, BLUE, BETWEEN = (130, 10, 10), (10, 60, 130), (80, 30, 60)


def write(folder: Path, tint: tuple[int, int, int], count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True)
    for index in range(count):
        picture(seed + index, tint).save(folder / f"{index}.png")
    return sorted(folder.glob("*.png"))


@pytest.fixture
def settings(clip_folder: Path) -> ScoringSection:
    return ScoringSection(extractor=str(clip_folder), style_extractor="colours", bootstrap=50)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, list[Path]]:
    versions = {"source": BLUE, "adain": BETWEEN, "restyled": RED}
    return {name: write(tmp_path / name, tint, 6) for name, tint in versions.items()}


@pytest.fixture
def style_ref(tmp_path: Path) -> list[Path]:
    return write(tmp_path / "style", RED, 5, seed=50)


def test_likeness_by_hand_and_more_style_where_the_style_is(
    settings: ScoringSection, images: dict[str, list[Path]], style_ref: list[Path]
) -> None:
    found = Judge(settings).score(images, style_ref)
    before, after = (make_extractor("thumbnail", "x").encode_images([picture(seed, tint) for seed in range(6)]) for tint in (BLUE, RED))
    by_hand = [float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)) for one, other in zip(before, after, strict=True)]
    assert found["images"]["restyled"]["layout"] == pytest.approx(by_hand, abs=1e-6)
    assert found["methods"]["restyled"]["layout"]["value"] == pytest.approx(sum(by_hand) / 6, abs=1e-6)
    means = {name: {key: score and score["value"] for key, score in row.items()} for name, row in found["methods"].items()}
    assert means["source"]["likeness"] is None and means["source"]["layout"] is None
    assert means["source"]["style_score"] < means["adain"]["style_score"] < means["restyled"]["style_score"]
    assert all(score["low"] <= score["value"] <= score["high"] and score["n"] == 6 for score in found["methods"]["adain"].values())
    assert found["extractors"]["style_score"] == "colours" and "middle of the images before" in found["notes"][-1]


def test_the_models_own_yardstick_is_what_counts(
    tmp_path: Path, settings: ScoringSection, images: dict[str, list[Path]], style_ref: list[Path]
) -> None:
    extractor = make_extractor("colours", "x")
    base = extractor.encode_images([picture(seed, BETWEEN) for seed in range(100, 120)])
    own = extractor.encode_images([picture(seed, RED) for seed in range(50, 55)])
    yardstick = Yardstick({})
    yardstick.add_style(base, own, None)
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    yardstick.save(evaluation / YARDSTICK)
    protocol: dict[str, Any] = {"scoring": settings.model_dump(mode="json"), "extractors": [extractor.id]}
    write_json(evaluation / PROTOCOL, protocol)
    found = Judge.of(evaluation).score(images, [])
    expected = yardstick.values("style_score", extractor.encode_images([picture(seed, RED) for seed in range(6)]))
    assert found["images"]["restyled"]["style_score"] == pytest.approx(expected.tolist(), rel=1e-5) and not found["notes"]
    # That of another extractor says nothing.
    write_json(evaluation / PROTOCOL, protocol | {"extractors": ["another"]})
    other = Judge.of(evaluation).score(images, style_ref)
    assert "middle of the images before" in other["notes"][-1]


def test_what_cannot_be_measured_is_said(settings: ScoringSection, images: dict[str, list[Path]], style_ref: list[Path]) -> None:
    found = Judge(settings).score({name: paths[:1] for name, paths in images.items()}, style_ref)
    assert found["methods"]["restyled"]["style_score"] is None and "too few images" in found["notes"][0]
    likeness = found["methods"]["restyled"]["likeness"]
    assert (likeness["low"], likeness["high"], likeness["n"]) == (None, None, 1)
    assert "StyleRef is not available" in Judge(settings).score(images, [])["notes"][0]
    assert Judge.of(Path("nowhere")).settings == ScoringSection()


def test_the_page_holds_every_picture_and_asks_the_network_for_nothing(
    tmp_path: Path, settings: ScoringSection, images: dict[str, list[Path]], style_ref: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Judge(settings).score(images, style_ref)
    about = {"model": "m", "style": "<b>red</b>", "strength": 0.6, "keep_structure": True, "steps": 20, "guidance": 2.5}
    names = [f"<i>{index}.png" for index in range(6)]
    page = write_restyle_page(tmp_path / "page.html", names, ["a man"] * 6, images, found, about).read_text()
    assert page.count("<img") == 18 and page.count('src="data:image/') == 18
    assert "http" not in page.replace("http-equiv", "") and "<i>" not in page and "&lt;b&gt;red&lt;/b&gt;" in page
    monkeypatch.setattr(restyle_page, "_SHOWN", 4)
    fewer = write_restyle_page(tmp_path / "fewer.html", names, ["a man"] * 6, images, found, about).read_text()
    assert fewer.count("<img") == 12 and "4 of 6 images" in fewer and "Means of 6 images" in fewer and "evenly spaced" not in page
    score = found["methods"]["restyled"]["style_score"]
    assert SPECS["style_score"].text(score["value"]) in page and MEASURES["layout"].title in page and "95 % intervals" in page
