import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from components.art.families import FAMILIES, choose
from components.art.overview import describe_families
from components.art.packages import fetch, presence_problem
from components.art.style_set import Sizes, render_style_set
from components.core.config import AuxSection, StyleSection
from components.core.content import digest_folder
from components.core.errors import InputError
from components.core.paths import read_jsonl
from components.styledata.manifest import scan_style
from tests.made_art import ANIMALS, PLACES, THINGS, Registry, archive, iconify

SIZES = Sizes(side=32, pool=10)


def _render(out: Path, *, seed: int = 0, sizes: Sizes = SIZES) -> dict[str, int]:
    others = [family for family in FAMILIES.values() if family.name != "lines"]
    return render_style_set(FAMILIES["lines"], others, out, sizes, seed=seed)


def test_only_the_concepts_asked_for_are_shown_and_margins_are_cut(registry: Registry, tmp_path: Path) -> None:
    fetch(list(FAMILIES.values()))
    concepts = {*ANIMALS[:10], *PLACES[:11], *THINGS}
    assert _render(tmp_path / "set", sizes=Sizes(32, 10, None, concepts, True)) == {"style_ref": 20, "reference": 7, "aux_pool": 10}
    rows = read_jsonl(tmp_path / "set" / "metadata.jsonl")
    assert {row["concept"] for row in rows} <= concepts
    circles = [Image.open(tmp_path / "set" / row["file_name"]).convert("L") for row in rows if row["family"] == "noto"]
    boxes = [ImageOps.invert(image).getbbox() for image in circles]
    # With its margins, the smallest circle would take a quarter of the side.
    assert circles and all(box is not None and box[2] - box[0] >= 28 for box in boxes)


def test_a_family_is_a_style_set(registry: Registry, tmp_path: Path) -> None:
    fetch(list(FAMILIES.values()))
    out = tmp_path / "set"
    assert _render(out) == {"style_ref": 20, "reference": 10, "aux_pool": 10}
    rows = read_jsonl(out / "metadata.jsonl")
    assert len(rows) == 40 == len(list(out.rglob("*.png")))
    style = [row for row in rows if row["file_name"].startswith("style_ref/")]
    pool = [row for row in rows if row["file_name"].startswith("aux_pool/")]
    assert Counter(row["role"] for row in style) == {"character": 10, "background": 10}
    assert Counter((row["family"], row["role"]) for row in pool) == {
        (family, role): count for family in ("noto", "boxes") for role, count in {"character": 2, "background": 1, "thing": 2}.items()
    }
    row = next(row for row in rows if row["concept"] == "bell-pepper" and row["family"] == "lines")
    assert row == {
        "file_name": "reference/lines-bell-pepper.png",
        "text": "bell pepper",
        "role": "thing",
        "concept": "bell-pepper",
        "family": "lines",
        "license": "MIT",
        "author": "Ann",
        "source": "https://example.org",
    }
    assert all(row["text"].startswith("a pictogram of ") for row in pool)
    with Image.open(out / row["file_name"]) as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")


def test_style_data_reads_it(registry: Registry, tmp_path: Path) -> None:
    fetch(list(FAMILIES.values()))
    _render(tmp_path / "set")
    manifest = scan_style(StyleSection(name="lines", source=str(tmp_path / "set")), AuxSection(source="curated"), tmp_path / "scanned")
    assert [len(manifest.usable(split)) for split in ("style_ref", "aux_pool", "reference")] == [20, 10, 10]
    assert not manifest.ignored and {entry.role for entry in manifest.split("style_ref")} == {"character", "background"}


def test_the_seed_decides(registry: Registry, tmp_path: Path) -> None:
    fetch(list(FAMILIES.values()))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _render(tmp_path / name, seed=seed)
    digests = [digest_folder(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_a_reference_of_some(registry: Registry, tmp_path: Path) -> None:
    fetch(list(FAMILIES.values()))
    assert _render(tmp_path / "set", sizes=Sizes(32, 0, 3)) == {"style_ref": 20, "reference": 3}


def test_a_pool_of_nobody(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names only lines"):
        render_style_set(FAMILIES["lines"], [], tmp_path / "set", SIZES)


def test_a_folder_with_something_in_it_is_left_alone(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        _render(tmp_path)


@pytest.mark.parametrize("fault", ["broken drawing", "few images", "absent package", "no resvg"])
def test_nothing_is_half_written(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    files = iconify("lines")
    if fault == "broken drawing":
        files["icons.json"]["icons"]["key"]["body"] = "<path"
    if fault == "few images":
        files["icons.json"]["icons"] = {name: icon for name, icon in files["icons.json"]["icons"].items() if name > "h"}
    registry.publish("lines", archive(files))
    fetch([FAMILIES["noto"], FAMILIES["lines"]] if fault == "absent package" else list(FAMILIES.values()))
    if fault == "no resvg":
        monkeypatch.setitem(sys.modules, "resvg_py", None)
    expected = {
        "broken drawing": "@iconify-json/lines: key: does not render",
        "few images": "lines: has 0 images of the role character",
        "absent package": "boxes@1.0.0 is not installed",
        "no resvg": r"styleforge\[art\]",
    }
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=expected[fault]):
        _render(tmp_path / "set")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_overview(registry: Registry) -> None:
    fetch([FAMILIES["noto"], FAMILIES["lines"]])
    rows = {row["name"]: row for row in describe_families()}
    assert (rows["lines"]["here"], rows["lines"]["pictures"], rows["lines"]["license"]) == (True, 30, "MIT")
    assert (rows["boxes"]["here"], rows["boxes"]["pictures"], rows["boxes"]["problem"]) == (False, None, "is not installed")


@pytest.mark.slow
def test_a_real_family(tmp_path: Path) -> None:
    """Of packages that are really here: in ``STYLEFORGE_HOME``, by ``styleforge art fetch``."""
    here = [family for family in choose(None) if presence_problem(family) is None]
    if len(here) < 2 or here[0].name != "noto":
        pytest.skip("run `styleforge art fetch` first")
    counts = render_style_set(here[1], here[2:], tmp_path / "set", Sizes(64, 40, 30))
    assert (counts["style_ref"], counts["reference"]) == (20, 30)
