from typing import Any

import numpy as np
import pytest

from components.art.concepts import read_dictionary, role_of
from components.art.drawings import Drawing, aligned, make_drawing, read_family
from components.art.families import FAMILIES
from components.art.packages import fetch, folder_of
from components.art.raster import rasterize, trim
from components.core.errors import InputError
from tests.made_art import NAMES, Registry, archive, iconify

DOT = '<circle cx="8" cy="8" r="4"/>'


def _read(registry: Registry, files: dict[str, Any]) -> dict[str, Drawing]:
    family = registry.publish("lines", archive(files))
    fetch([FAMILIES["noto"], family])
    return read_family(family, read_dictionary())


def _with(**icons: dict[str, Any]) -> dict[str, Any]:
    files = iconify("lines")
    files["icons.json"]["icons"] = {name.replace("_", "-"): icon for name, icon in icons.items()}
    return files


def test_families_show_the_same_concepts(registry: Registry) -> None:
    fetch([FAMILIES[name] for name in ("noto", "lines", "boxes")])
    dictionary = read_dictionary()
    families = [read_family(FAMILIES[name], dictionary) for name in ("noto", "lines", "boxes")]
    assert aligned(families) == sorted(NAMES)
    assert {drawings["cat-face"].concept for drawings in families} == {dictionary.by_name["catface"]}
    assert dictionary.by_name["catface"].words == "cat face"
    assert aligned([]) == []


def test_names_without_hyphens_older_names_and_what_is_left_out(registry: Registry) -> None:
    icons = {"catface": DOT, "soldier-ant": DOT + DOT, "unheard-of": DOT, "chequered-flag": DOT}
    files = _with(**{name: {"body": body} for name, body in icons.items()}, bat={"body": DOT, "hidden": True})
    assert list(_read(registry, files)) == ["ant", "cat-face"]


def test_the_own_name_goes_before_an_older_one(registry: Registry) -> None:
    drawings = _read(registry, _with(soldier_ant={"body": "<g/>"}, ant={"body": DOT}))
    assert DOT in drawings["ant"].body


def test_one_drawing_of_two_concepts_is_that_of_the_first(registry: Registry) -> None:
    assert list(_read(registry, _with(bat={"body": DOT}, ant={"body": DOT}))) == ["ant"]


def test_a_name_that_two_drawings_share(registry: Registry) -> None:
    with pytest.raises(InputError, match="cat-face and catface both show cat face"):
        _read(registry, _with(cat_face={"body": DOT}, catface={"body": DOT + DOT}))


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({"author": {"name": "Ann"}}, "under no licence by Ann"),
        ({"license": {"spdx": "MIT"}}, "under MIT by no author"),
        ({"license": {"spdx": "GPL-3.0"}, "author": {"name": "Ann"}}, "under GPL-3.0 by Ann; expected MIT by Ann"),
    ],
)
def test_rights_are_those_of_the_table(registry: Registry, info: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        _read(registry, {**iconify("lines"), "info.json": info})


@pytest.mark.parametrize(
    "body", ['<image href="a.png"/>', '<use xlink:href="file:///a.svg#b"/>', "<text>a</text>", '<path fill="url(http://a)"/>']
)
def test_a_drawing_stands_alone(registry: Registry, body: str) -> None:
    with pytest.raises(InputError, match="@iconify-json/lines: ant: refers to something outside itself"):
        _read(registry, _with(ant={"body": body}))


def test_inner_references_are_none_to_the_outside(registry: Registry) -> None:
    body = '<linearGradient id="a"><stop stop-color="red"/></linearGradient><path id="b" fill="url(#a)" d="M0 0h9v9z"/><use href="#b"/>'
    assert list(_read(registry, _with(ant={"body": body}))) == ["ant"]


def test_a_broken_file_is_named(registry: Registry) -> None:
    fetch([FAMILIES["noto"]])
    file = folder_of(FAMILIES["noto"]) / "chars.json"
    for content in ("{", "[]"):
        file.write_text(content)
        with pytest.raises(InputError, match=r"chars\.json"):
            read_dictionary()


def test_openmoji_is_named_by_code_points(registry: Registry) -> None:
    svg = '<svg id="emoji" viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">{}</svg>'
    family = registry.install_openmoji({"1F400-FE0F": svg.format(DOT), "1F401": svg.format(DOT + DOT), "1FFFF": svg.format("")})
    fetch([FAMILIES["noto"]])
    assert list(read_family(family, read_dictionary())) == ["ant", "badger"]


def test_openmoji_under_another_licence(registry: Registry) -> None:
    family = registry.install_openmoji({}, license="MIT")
    fetch([FAMILIES["noto"]])
    with pytest.raises(InputError, match="under MIT by OpenMoji; expected CC-BY-SA"):
        read_family(family, read_dictionary())


@pytest.mark.parametrize(
    ("name", "category", "role"),
    [
        ("grinning-face", "Smileys & Emotion", "character"),
        ("red-heart", "Smileys & Emotion", "thing"),
        ("person-raising-hand", "People & Body", "character"),
        ("raised-hand", "People & Body", "thing"),
        ("fox", "Animals & Nature", "character"),
        ("sunflower", "Animals & Nature", "thing"),
        ("house-with-garden", "Travel & Places", "background"),
        ("automobile", "Travel & Places", "thing"),
        ("peach", "Food & Drink", "thing"),
        ("atm-sign", "Symbols", None),
    ],
)
def test_roles(name: str, category: str, role: str | None) -> None:
    assert role_of(name, category) == role


def _draw(registry: Registry, body: str, box: tuple[float, float, float, float] = (0, 0, 16, 16)) -> Drawing:
    fetch([FAMILIES["noto"]])
    return make_drawing(FAMILIES["noto"], read_dictionary().by_name["ant"], body, box)


def test_pixels(registry: Registry) -> None:
    """A red box of 8 × 4 units is centred in the square, on white."""
    drawing = _draw(registry, '<path fill="red" d="M0 0h8v4H0z"/>', (0, 0, 8, 4))
    image = rasterize(drawing, 64)
    pixels = np.asarray(image)
    assert pixels.shape == (64, 64, 3)
    assert (pixels[16:48] == (255, 0, 0)).all() and (pixels[:16] == 255).all() and (pixels[48:] == 255).all()
    assert rasterize(drawing, 64).tobytes() == image.tobytes()


def test_trimmed_drawings_tell_nothing_by_their_margin(registry: Registry) -> None:
    """The same ink, small in a corner and large, becomes the same picture; what the box hides stays hidden."""
    small = _draw(registry, '<path fill="red" d="M1 1h4v2H1z"/><path d="M-9 0h8v8h-8z"/>')
    large = _draw(registry, '<path fill="red" d="M0 4h16v8H0z"/>')
    expected = np.full((80, 80, 3), 255)
    expected[22:58, 4:76] = (255, 0, 0)
    for drawing in (small, large):
        np.testing.assert_allclose(np.asarray(rasterize(trim(drawing), 80), int), expected, atol=2)


@pytest.mark.parametrize(("body", "found"), [("<path", "does not render"), ("<g/>", "empty image")])
def test_what_cannot_be_seen_is_refused(registry: Registry, body: str, found: str) -> None:
    with pytest.raises(InputError, match=f"@iconify-json/noto: ant: .*{found}"):
        rasterize(_draw(registry, body), 16)
