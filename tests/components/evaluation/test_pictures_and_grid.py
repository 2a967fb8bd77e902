from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError
from components.evaluation.grid import GridStyle, bank_grid, contact_sheet, fit
from components.evaluation.pictures import Picture, pick_pairs
from tests.components.evaluation.conftest import FinishedRun


def test_pairs_are_spaced_evenly_and_in_reading_order() -> None:
    style = [Picture(Path(f"{i}"), f"p{i}", category, "x", "x", 0) for i, category in enumerate(["things", "people", "zoo"] * 10)]
    base = [Picture(Path(f"b{i}"), f"p{i}", "x", "x", "x", 0) for i in range(0, 30, 2)]
    pairs = pick_pairs(style, base, 5)
    assert list(pairs) == ["people", "things", "zoo"]
    assert [ours.prompt_id for ours, _ in pairs["things"]] == ["p0", "p6", "p12", "p18", "p24"]
    assert [theirs is not None for _, theirs in pairs["people"]] == [int(ours.prompt_id[1:]) % 2 == 0 for ours, _ in pairs["people"]]


def test_small_pictures_are_enlarged_by_a_whole_factor_and_large_ones_reduced() -> None:
    assert fit(Image.new("RGB", (64, 64)), 200).size == (192, 192)
    assert fit(Image.new("RGB", (64, 32)), 128).size == (128, 64)
    assert fit(Image.new("RGB", (512, 256)), 128).size == (128, 64)
    checker = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("RGB")
    assert set(np.unique(np.asarray(fit(checker, 64)))) == {0, 255}


def test_contact_sheet_shows_every_picture_where_it_belongs(tmp_path: Path) -> None:
    paths = []
    for value in range(5):
        paths.append(tmp_path / f"{value}.png")
        Image.new("RGB", (8, 8), (50 * value, 0, 0)).save(paths[-1])
    out = contact_sheet(paths, tmp_path / "out" / "sheet.png", columns=3, style=GridStyle(cell=16, gap=4))
    with Image.open(out) as sheet:
        assert sheet.format == "PNG" and sheet.width == 4 + 3 * 20
        assert [sheet.getpixel((4 + 20 * i + 8, 12)) for i in range(3)] == [(0, 0, 0), (50, 0, 0), (100, 0, 0)]
        colours = set(sheet.convert("RGB").get_flattened_data())
    assert {(150, 0, 0), (200, 0, 0)} <= colours
    assert not list((tmp_path / "out").glob(".*"))


def test_bank_grid_and_captions(finished_run: FinishedRun, tmp_path: Path) -> None:
    root = finished_run.root
    plain = bank_grid(root / "style", root / "base", tmp_path / "grid.png", per_category=2, columns=2)
    with Image.open(plain) as grid:
        assert grid.height > 2 * 2 * 192 and grid.width > 2 * 192
        assert len(set(grid.convert("L").get_flattened_data())) > 50
    # A word that is too wide is shortened.
    wide = contact_sheet([plain], tmp_path / "s.png", captions=["w" * 200 + " short"], style=GridStyle(cell=48))
    with Image.open(wide) as sheet:
        assert sheet.width == 48 + 20
    with pytest.raises(InputError, match="no images"):
        contact_sheet([], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
