import pytest

from components.art.families import FAMILIES
from components.art.packages import fetch
from components.core.errors import InputError
from runs.measures import MeasureOptions, measure
from tests.made_art import Registry, registry

__all__ = ["registry"]
CHOICE = ("noto", "lines", "boxes")
OPTIONS = MeasureOptions(CHOICE, concepts=6, side=64, resamples=50)


def test_extractors_are_judged_on_the_same_images(registry: Registry) -> None:
    fetch(list(FAMILIES.values()))
    said: list[str] = []
    found = measure(["pocket", "efficientnet-lite0:moments-0"], OPTIONS, say=said.append)
    assert found.families == CHOICE and len(found.concepts) == 6 and said[0] == "rendering 18 images"
    assert [name for name, _ in found.readings] == ["pocket", "efficientnet-lite0:moments-0"]
    # Dots, lines and boxes of three colours: who drew them can be read by anyone, which of six sizes they have can hardly.
    for _, reading in found.readings:
        assert reading.style.value > 0.9 and reading.style.n == 18 and reading.reads == "style"
    data = found.as_dict()
    assert [row["extractor"] for row in data["extractors"]] == ["pocket", "efficientnet-lite0:moments-0"]
    assert measure(["efficientnet-lite0:moments-0"], OPTIONS).as_dict()["extractors"] == data["extractors"][1:]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (MeasureOptions(("lines",)), "at least two families"),
        (MeasureOptions(CHOICE, concepts=31), "30 concepts in common"),
        (MeasureOptions(("lines", "nothing")), "no such family"),
    ],
)
def test_refusals(registry: Registry, options: MeasureOptions, found: str) -> None:
    fetch(list(FAMILIES.values()))
    with pytest.raises(InputError, match=found):
        measure([], options)


def test_absent_families(registry: Registry) -> None:
    with pytest.raises(InputError, match=r"noto@1\.0\.0 is not installed.*styleforge art fetch"):
        measure([], OPTIONS)


def test_the_pocket_world_judges_too() -> None:
    options = MeasureOptions(("anime", "photo", "ink drawing"), concepts=8, resamples=50, world="pocket")
    found = measure(["texture", "colours"], options)
    assert found.families == ("anime", "photo", "ink drawing") and len(found.concepts) == 8
    (_, texture), (_, colours) = found.readings
    assert texture.style.n == 24 and texture.style.low > texture.style_chance and texture.style.value >= colours.style.value
    assert measure(["texture"], options).as_dict()["extractors"] == found.as_dict()["extractors"][:1]
    for families, problem in ((("anime", "phot"), "did you mean photo"), (("anime",), "at least two looks")):
        with pytest.raises(InputError, match=problem):
            measure([], MeasureOptions(families, concepts=2, world="pocket"))
