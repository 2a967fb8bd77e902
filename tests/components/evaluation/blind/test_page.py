"""The page does not tell, and works in a browser: keys, touch, undo, and answers that outlive a reload."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components.core.errors import InputError
from components.evaluation.blind.page import BlindPage, write_blind
from components.evaluation.blind.pairs import Candidate, Pair
from components.evaluation.blind.votes import read_answers, read_key, score_votes
from tests.components.evaluation.test_report import check_in_browser


def image(folder: Path, name: str, size: tuple[int, int], colour: tuple[int, int, int]) -> Path:
    about = PngInfo()
    about.add_text("styleforge", "SECRET")
    Image.new("RGB", size, colour).save(folder / name, pnginfo=about, icc_profile=b"SECRET")
    return folder / name


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    """The artist's images are red, wide and small, the model's blue and square."""
    return [
        Pair(
            Candidate(image(tmp_path, f"artists-{index}.png", (40, 20), (200, index, 0)), "SECRET caption"),
            Candidate(image(tmp_path, f"models-{index}.png", (64, 64), (0, index, 200)), f"prompt <{index}>", prompt_id=f"p{index}"),
            "caption",
        )
        for index in range(6)
    ]


def make(pairs: list[Pair], out: Path, **options: Any) -> tuple[dict[str, Any], str]:
    page = BlindPage(**{"kind": "artist", "pairs": pairs, "style_ref": [], "sources": {"model": {"name": "run"}}, **options})
    return write_blind(out, page), (out / "blind.html").read_text(encoding="utf-8")


def contents(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.findall(r'<script type="application/json" id="data">(.*)</script>', text)[0])
    return found


def test_the_page_does_not_give_the_answer_away(pairs: list[Pair], tmp_path: Path) -> None:
    key, text = make(pairs, tmp_path / "out")
    assert not re.findall(
        "SECRET|artists-|models-|caption|prompt|matched",
        re.sub(r"<style>.*?</style>|<script>.*?</script>|class=.prompt.*?>", "", text, flags=re.S),
    )
    page = contents(text)
    shapes = {(one["width"], one["height"], one["small"]) for pair in page["pairs"] for one in pair["images"]}
    assert shapes == {(40, 40, True)} and {pair["text"] for pair in page["pairs"]} == {""}
    # Each kind lies on either side equally often, and not in turn.
    sides = [row["left"] for row in key["pairs"]]
    assert sides.count("artist") == 3 and sides not in (["artist", "model"] * 3, ["model", "artist"] * 3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["blind.html", "key.json"]
    assert [row["model"]["prompt_id"] for row in key["pairs"]] != [f"p{index}" for index in range(6)]


def test_the_key_says_what_the_page_shows(pairs: list[Pair], tmp_path: Path) -> None:
    key, text = make(pairs, tmp_path / "out")
    for row, pair in zip(key["pairs"], contents(text)["pairs"], strict=True):
        first = Image.open(io.BytesIO(base64.b64decode(pair["images"][0]["uri"].partition(",")[2])))
        red = first.convert("RGB").getpixel((5, 5))[0] > 100  # type: ignore[index]
        assert row["pair"] == pair["pair"] and row["left"] == ("artist" if red else "model") and row["left"] != row["right"]


def test_the_same_seed_gives_the_same_bytes_and_another_another_order(pairs: list[Pair], tmp_path: Path) -> None:
    key, text = make(pairs, tmp_path / "a")
    assert make(pairs, tmp_path / "b") == (key, text)
    other, _ = make(pairs, tmp_path / "c", seed=1)
    assert other["page"] != key["page"] and other["pairs"] != key["pairs"]
    with pytest.raises(InputError, match="already exists"):
        make(pairs, tmp_path / "a")
    assert (tmp_path / "a" / "key.json").is_file()


def test_of_two_models_the_prompt_is_shown_and_cannot_leave_its_place(pairs: list[Pair], tmp_path: Path) -> None:
    hostile = [Pair(Candidate(pair.first.path, "</script><b>x"), pair.second, "prompt") for pair in pairs]
    sources = {"a": {"name": "one"}, "b": {"name": "two"}}
    key, text = make(hostile, tmp_path / "out", kind="like", sources=sources, style_ref=[pairs[0].first.path])
    assert "</script><b>" not in text and contents(text)["pairs"][0]["text"] == "</script><b>x"
    assert {row["left"] for row in key["pairs"]} == {"a", "b"} and 'alt="the style, 1"' in text


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1000, "light")])
def test_people_answer_in_a_browser(pairs: list[Pair], tmp_path: Path, browser: Any, width: int, scheme: str) -> None:
    style = [pair.first.path for pair in pairs[:3]]
    make(pairs, tmp_path / "out", style_ref=style)
    file = tmp_path / "out" / "blind.html"
    page = check_in_browser(browser, file, width, scheme, 5)
    count = lambda: page.inner_text("#count")  # noqa: E731
    assert count() == "0 of 6 answered" and page.is_disabled("#undo") and page.is_disabled("#save")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.click("#right")
    assert count() == "3 of 6 answered"
    page.keyboard.press("u")
    page.click("#undo")
    assert count() == "1 of 6 answered"
    page.fill("#name", "Ann u.")
    # Letters in a field are no keys, and a reload loses nothing.
    page.press("#name", "ArrowLeft")
    page.reload()
    assert count() == "1 of 6 answered" and page.input_value("#name") == "Ann u."
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert count() == "6 of 6 answered" and page.is_visible("#end") and not page.is_visible("#question")
    with page.expect_download() as download:
        page.click("#save")
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    assert saved.name == "answers-Ann-u-.json"
    key = read_key(tmp_path / "out" / "key.json")
    (answers,) = read_answers(key, [saved])
    assert answers.choices == {0: "left", **dict.fromkeys(range(1, 6), "right")} and answers.name == "Ann u."
    hits = sum(row[answers.choices[row["pair"]]] == "model" for row in key["pairs"])
    assert score_votes(key, [answers])["rate"]["value"] == pytest.approx(100 * hits / 6)
    # The next person begins anew, under another id.
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("#again")
    assert count() == "0 of 6 answered" and page.input_value("#name") == ""
    page.context.close()


@pytest.mark.browser
def test_a_browser_that_keeps_nothing_says_so(pairs: list[Pair], tmp_path: Path, browser: Any) -> None:
    make(pairs, tmp_path / "out")
    page = browser.new_page(has_touch=True, viewport={"width": 390, "height": 844})
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})")
    page.goto((tmp_path / "out" / "blind.html").as_uri())
    page.tap("#left")
    assert page.inner_text("#count") == "1 of 6 answered" and "save them before" in page.inner_text("#kept")
    page.close()
