import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.core.comparison import CompareConfig
from components.core.errors import InputError
from components.core.paths import read_json
from components.evaluation.comparison import Outcome
from components.evaluation.comparison_page import render_comparison
from components.evaluation.grid import WallRow, picture_wall
from components.evaluation.significance import mean_over_seeds
from tests.components.evaluation.made_comparison import CLAIMS, CLIP, METHODS, SHIFTS, config, outcomes
from tests.components.evaluation.test_report import check_in_browser, check_refers_to_nothing

SETTINGS = {"training.steps": 400, "base.model": "pocket <b>"}
ABLATION = {"name": "Aux source", "styles": ["anime"], "variants": [
    {"name": "aux-none", "label": "none", "like": "single-styleforge", "set": {"aux.source": "none"}},
    {"name": "aux-target", "label": "target style", "like": "single-styleforge", "set": {"aux.source": "target"}},
]}  # fmt: skip


@dataclass(frozen=True)
class Rendered:
    made: CompareConfig
    cells: list[Outcome]
    folder: Path
    result: dict[str, Any]

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


def render(folder: Path, made: CompareConfig, fails: Any = None, settings: dict[str, Any] = SETTINGS, **more: float) -> Rendered:
    cells = outcomes(folder / "cells", made, SHIFTS | more, CLIP | {name: 26 + value for name, value in more.items()}, fails)
    return Rendered(made, cells, folder / "out", render_comparison(folder / "out", made, cells, settings))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Six methods, three styles, three seeds and an ablation; one style of one method failed, and one seed of another."""

    def fails(name: str, style: str, seed: int) -> bool:
        return (name, style) == ("textual-inversion", "cubism") or (name, style, seed) == ("lora", "anime", 2)

    made = config(styles=[{"name": n} for n in ("anime", "cubism", "SureB")], seeds=[0, 1, 2], claims=CLAIMS, ablations=[ABLATION])
    return render(tmp_path_factory.mktemp("large"), made, fails, **{"aux-none": 1.0, "aux-target": 0.9})


def _rows(markdown: str, heading: str) -> dict[str, list[str]]:
    part = markdown.split(f"{heading}\n", 1)[1].strip().split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part.splitlines()[2:]]
    return {row[0].strip("| "): row[1:] for row in rows}


def test_every_file_is_there_and_the_same_again(large: Rendered, tmp_path: Path) -> None:
    render_comparison(tmp_path, large.made, large.cells, SETTINGS)
    names = {path.name for path in large.folder.iterdir()}
    assert names == {"comparison.html", "comparison.md", "comparison.csv", "comparison.json", "wall.png", "tradeoff.svg"}
    for name in names:
        assert (large.folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_page_holds_everything_and_refers_to_nothing(large: Rendered) -> None:
    page = large.text("comparison.html")
    check_refers_to_nothing(page)
    for words in ("Single-StyleForge", "KID × 10³", "Ablation: Aux source", "held in", "Seed 0", "Equal steps", "2 of 3 seeds",
                  "6 methods, 3 styles, 3 seeds."):  # fmt: skip
        assert words in page
    assert "<b>with</b>" not in page and "&lt;nan&gt;" in page and "pocket &lt;b&gt;" in page
    assert page.count('<p class="missing">failed</p>') == 2


def test_best_and_second_are_marked_in_each_column(large: Rendered) -> None:
    rows = _rows(large.text("comparison.md"), "### KID × 10³ ↓")
    assert rows["Single-StyleForge"][0].startswith("**") and rows["Multi-StyleForge"][0].startswith("<u>")
    assert large.result["tables"][0]["metrics"]["clip_t"]["ranks"]["all"]["best"] == "multi-styleforge"
    records = [cell.record for cell in large.cells if cell.variants == ("dreambooth",) and cell.style == "anime"]
    found = large.result["tables"][0]["metrics"]["kid"]["rows"]["dreambooth"]["anime"]
    kids = [record.scores["style"]["kid"]["value"] for record in records if record]
    assert (found["mean"], found["half_width"]) == pytest.approx(tuple(vars(mean_over_seeds(kids, 0.95)).values())[:2])
    assert rows["Textual Inversion"][1] == "failed" and "(2 of 3 seeds)" in rows["LoRA"][0]
    # The mean over styles is of seeds that have all styles, so a gap moves it to no other mixture of styles.
    assert rows["Textual Inversion"][3] == "– (incomplete)" and "(2 of 3 seeds)" in rows["LoRA"][3]


def test_claims_are_decided(large: Rendered) -> None:
    best, close, prompts, lora = large.result["claims"]
    # One of its four others has no cell in one style: the others may hold, the claim cannot.
    assert best["verdict"] == "undecided" and best["missing"] == ["textual-inversion"]
    assert [pair["decision"]["verdict"] for pair in best["pairs"] if pair["decision"]] == ["held"] * 3
    assert close["verdict"] == "held" and close["seeds"] == 3 and close["pairs"][0]["styles"].keys() == {"anime", "cubism", "SureB"}
    assert prompts["verdict"] == "not held" and lora["verdict"] == "not held" and lora["seeds"] == 2


def test_a_measure_has_its_table_and_decides_claims(tmp_path: Path) -> None:
    names = METHODS[:4]
    claims = [
        {"name": "closer", "metric": "style_score", "better": names[0], "than": [names[1]]},
        {"name": "closer the other way round", "metric": "style_score", "better": names[1], "than": [names[0]]},
        {"name": "one was not measured", "metric": "style_score", "better": names[0], "than": [names[1], names[3]]},
    ]
    made = config(
        styles=[{"name": "anime"}, {"name": "cubism"}], methods=config().model_dump()["methods"][:4], seeds=[0, 1, 2], claims=claims
    )
    # So near to one another that only paired prompts tell them apart.
    styles = dict(zip(names, (0.95, 0.90, 0.60), strict=False))
    cells = outcomes(tmp_path / "cells", made, SHIFTS, CLIP, styles=styles)
    found = render_comparison(tmp_path / "out", made, cells, SETTINGS)
    assert [claim["verdict"] for claim in found["claims"]] == ["held", "not held", "undecided"]
    assert found["claims"][2]["missing"] == [names[3]]
    rows = _rows((tmp_path / "out" / "comparison.md").read_text(encoding="utf-8"), "### style ↑")
    assert rows["DreamBooth"][0].startswith("**0.9") and rows["Textual Inversion"][0].startswith("<u>0.9")
    records = [cell.record for cell in cells if cell.variants == (names[2],) and cell.style == "anime"]
    mean = found["tables"][0]["metrics"]["style_score"]["rows"][names[2]]["anime"]["mean"]
    assert mean == pytest.approx(sum(record.scores["style"]["style_score"]["value"] for record in records if record) / 3)
    # Of a measure that no cell has, nothing is shown.
    assert "copies" not in found["tables"][0]["metrics"]


def test_csv_has_a_row_for_each_cell(large: Rendered) -> None:
    rows = list(csv.DictReader(large.text("comparison.csv").splitlines()))
    assert len(rows) == 6 * 9 + 2 * 3
    failed = [row for row in rows if row["status"] == "failed"]
    assert len(failed) == 4 and failed[0]["error"].startswith("the loss") and failed[0]["kid"] == ""
    first = large.cells[0].record
    assert first and float(rows[0]["kid"]) == first.scores["style"]["kid"]["value"] and rows[0]["saved_bytes"] == "1000000"


def test_wall_has_a_column_for_each_method_and_two_rows_a_style(large: Rendered, tmp_path: Path) -> None:
    wall = Image.open(large.folder / "wall.png")
    assert wall.format == "PNG" and wall.width == 128 + 16 + 7 * 136 and 6 * 136 < wall.height < 6 * 136 + 3 * 90
    with pytest.raises(InputError, match="rows"):
        picture_wall(["a", "b"], {"style": [WallRow("prompt", [None])]}, tmp_path / "wall.png")


def test_one_style_and_one_seed(tmp_path: Path) -> None:
    one = render(tmp_path, config(claims=[CLAIMS[3]]))
    page = one.text("comparison.html")
    assert "One seed: no interval" in page and "By style" not in page and "with one seed the interval" in page.lower()
    assert "6 methods, 1 style, 1 seed." in page and "all styles" not in one.text("comparison.md")
    assert one.result["tables"][0]["metrics"]["kid"]["rows"]["lora"]["anime"]["half_width"] is None


def test_when_every_cell_failed_there_is_still_a_page(tmp_path: Path) -> None:
    none = render(tmp_path, config(claims=CLAIMS), lambda *_: True, {})
    assert [claim["verdict"] for claim in none.result["claims"]] == ["undecided"] * 4
    assert not (none.folder / "wall.png").exists() and not (none.folder / "tradeoff.svg").exists()
    assert "6 failed" in none.text("comparison.html") and read_json(none.folder / "comparison.json")["cells"][0]["status"] == "failed"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_browser(large: Rendered, browser: Any, width: int, scheme: str) -> None:
    check_in_browser(browser, large.folder / "comparison.html", width, scheme, 3 * 2 * 7 - 2).close()


@pytest.mark.browser
def test_the_pictures_of_one_method_do_not_fill_the_page(tmp_path: Path, browser: Any) -> None:
    one = render(tmp_path, config(methods=[{"name": "lora", "set": {"method.name": "lora"}}]))
    page = browser.new_page(viewport={"width": 1280, "height": 844})
    page.goto((one.folder / "comparison.html").as_uri())
    widths = page.evaluate("[...document.querySelectorAll('.row img')].map(i => i.getBoundingClientRect().width)")
    assert widths and all(150 < width < 240 for width in widths)
    page.close()


def test_labels_of_the_plot_cover_neither_points_nor_each_other(large: Rendered) -> None:
    plot = large.text("tradeoff.svg")
    assert plot.startswith("<svg") and "untouched base, outside" in plot and "prefers-color-scheme: dark" in plot
    labels = re.findall(r'<text class="m\d" x="([\d.]+)" y="([\d.]+)">([^<]+)</text>', plot)
    boxes = [(float(x), float(y) - 12, float(x) + 8.4 * len(name), float(y)) for x, y, name in labels]
    points = [(float(x), float(y)) for x, y in re.findall(r'<circle class="dot m\d" cx="([\d.]+)" cy="([\d.]+)"', plot)]
    # Textual Inversion has no mean over styles.
    assert len(boxes) == len(points) == len(METHODS) - 1
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert not any(left < x < right and top < y < bottom for x, y in points)
        for other in boxes[number + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
