import re
import shutil
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from components.core.config import parse_config
from components.core.pages import thumbnail
from components.core.paths import write_json
from components.evaluation import charts
from components.evaluation import report as report_page
from components.evaluation.report import ReportInputs, render_report
from components.evaluation.verdict import judge
from tests.components.evaluation.conftest import FinishedRun, picture


def estimate(value: float, spread: float = 0.0, n: int = 200) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, "n": n}


def scores(
    kid: float = 0.1, clip_t: float = 28.0, *, spread: float = 0.01, reference: str = "held-out", drift: float = 28.0
) -> dict[str, Any]:
    four = {"fid": estimate(9.0, 1), "clip_i": estimate(70, 1)}
    return {
        "style": {"kid": estimate(kid, spread), "clip_t": estimate(clip_t, 0.3), **four},
        "base": {"kid": estimate(0.4, spread), "clip_t": estimate(28.0, 0.3), **four},
        "drift": {
            "clip_t": estimate(drift, 0.2), "clip_t_base": estimate(28.0, 0.2), "clip_i": estimate(50, 1), "clip_i_base": estimate(49, 1),
            "kid_to_base": estimate(0.01, 0.005),
        },
        "by_category": {"people": {"clip_t": estimate(27, 1), "clip_t_base": estimate(28, 1)}},
        "context": {
            "extractor": "pocket", "extractor_id": "clip:" + "ef" * 32, "fid_kid_features": "pocket", "dimension": 128,
            "fid_kid_resize": "none",
            "kid_subsets": 5, "kid_subset_size": 8, "kid_kernel": "(x·y/d + 1)^3", "confidence": 0.95, "bootstrap": 20, "fid_bootstrap": 20,
            "reference": reference, "reference_n": 300, "versions": {"torch": "2"}, "prompts_cut": 0,
        },
        "digests": {"style": "12" * 32},
    }  # fmt: skip


def report(run: FinishedRun, out: Path, **changes: Any) -> str:
    config = parse_config({"style": {"name": "anime", "source": "<data> & more"}})
    given: dict[str, Any] = {"config": config, "scores": scores(), "reference": run.reference, **run.folders(), **changes}
    inputs = ReportInputs(**{field.name: given.pop(field.name) for field in fields(ReportInputs) if field.name in given})
    return render_report(out, inputs=inputs, **given).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full(finished_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    report(finished_run, out)
    return out


class Links(HTMLParser):
    """Everything that a page could load, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset", "action")]


@pytest.mark.parametrize(
    ("kid", "clip_t", "spread", "level", "headline"),
    [
        (0.1, 27.5, 0.01, "good", "The model learned the style and still follows prompts"),
        (0.2, 25.2, 0.01, "good", "still follows prompts"),
        (0.1, 24.0, 0.01, "mixed", "less closely than its base"),
        (0.1, 15.0, 0.01, "bad", "no longer follows prompts"),
        (0.3, 28.0, 0.01, "mixed", "part of the style"),
        (0.39, 28.0, 0.001, "bad", "did not learn"),
        (0.5, 28.0, 0.01, "bad", "did not learn"),
        (0.1, 28.0, 0.3, "bad", "did not learn"),
        (0.5, 10.0, 0.01, "bad", "broken"),
    ],
)
def test_verdict(kid: float, clip_t: float, spread: float, level: str, headline: str) -> None:
    verdict = judge(scores(kid, clip_t, spread=spread))
    assert verdict.level == level and headline in verdict.headline and verdict.advice
    assert ("may be chance" in verdict.because) == (spread == 0.3)


def test_verdict_keeps_its_caveats() -> None:
    assert judge(scores()).caveats == []
    assert "training images" in judge(scores(reference="style_ref")).caveats[0]
    assert "forgot" in judge(scores(drift=20)).caveats[0]
    few = scores()
    few["context"]["reference_n"] = 12
    assert "small sample" in judge(few).caveats[0]
    assert judge({**scores(), "drift": None}).level == "good"


def test_the_verdict_on_the_data_and_what_limits_the_model(finished_run: FinishedRun, tmp_path: Path) -> None:
    shutil.copytree(finished_run.folders()["validation"], tmp_path / "examined")
    images = finished_run.folders()["style_set"] / "images"
    picture_of_set = next(path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png")))
    finding = {
        "name": "coherence",
        "question": "One style?",
        "value": 0.1,
        "threshold": 0.5,
        "unit": "",
        "n": 20,
        "good": False,
        "at_most": False,
    }
    said = {"says": "Two styles.", "advice": "Take one.", "pictures": [{"path": picture_of_set, "note": "of one kind"}]}
    examined = {"headline": "Look first.", "pictures": 20, "reader": "x", "findings": [finding | said]}
    write_json(tmp_path / "examined" / "examination.json", examined)
    page = report(finished_run, tmp_path / "report.html", validation=tmp_path / "examined", scores=scores(0.5))
    check_refers_to_nothing(page)
    for words in (
        "What limits it:</b> The set. Two styles.",
        "Verdict on the data",
        "Look first.",
        "0.10 (at least 0.50; n = 20)",
        picture_of_set,
    ):
        assert words in page
    assert "What limits it" not in report(finished_run, tmp_path / "other.html")


def check_refers_to_nothing(page: str) -> None:
    links = Links(page)
    assert all(target.startswith(("data:", "#")) for target in links.targets)
    assert "script" not in links.tags and "iframe" not in links.tags
    assert not re.search(r"url\(|@import|https?://", page)


def test_page_holds_everything_and_refers_to_nothing(full: Path) -> None:
    page = full.read_text(encoding="utf-8")
    check_refers_to_nothing(page)
    for words in ("The model learned the", "KID × 10³", "StyleRef", "Aux", "Reference", "near duplicates", "and 10 more", "caption_dropout",
                  "cdcdcdcdcdcdcdcd", "diffusers 0.42.1", "<svg", "validation",
                  "the checkpoint at step 60, guidance 2", "instead of step 100, guidance 2.5",
                  "CLIP-T at least 54.00", "From the exported file"):  # fmt: skip
        assert words in page
    assert page.index("Verdict") < page.index('id="scores"') < page.index('id="pictures"')
    # What users write is escaped.
    assert "<b>hats</b>" not in page and "&lt;b&gt;hats&lt;/b&gt; &amp; a man" in page and "&lt;data&gt; &amp; more" in page
    assert "guided away" not in page and 'id="attention"' not in page


def test_same_inputs_give_the_same_bytes_and_the_size_is_bounded(
    finished_run: FinishedRun, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = full.read_text(encoding="utf-8")
    assert report(finished_run, tmp_path / "again.html") == page
    monkeypatch.setattr(report_page, "PER_CATEGORY", 1)
    monkeypatch.setattr(report_page, "SHEET", 2)
    small = report(finished_run, tmp_path / "b.html")
    assert len(small) < len(page) < 200_000
    assert Links(small).tags.count("img") < Links(page).tags.count("img")
    noise = picture(0, (0, 0, 0), 64).resize((2000, 1500))
    shown = thumbnail(noise, 256)
    assert (shown["width"], shown["height"], shown["small"]) == (256, 192, False) and len(shown["uri"]) < 60_000


def test_a_run_with_gaps_still_has_a_page(finished_run: FinishedRun, tmp_path: Path) -> None:
    run = FinishedRun(shutil.copytree(finished_run.root, tmp_path / "run"), finished_run.reference)
    shutil.rmtree(run.root / "model")
    shutil.rmtree(run.root / "aux")
    (run.root / "aux").mkdir()
    (run.root / "split" / "split.json").write_text(
        '{"style_ref": [{"path": "style_ref/0.png", "role": null}], "reference_is_style_ref": true}'
    )
    shutil.copytree(run.root / "base", tmp_path / "half")
    listing = tmp_path / "half" / "metadata.jsonl"
    listing.write_text("".join(line for line in listing.read_text().splitlines(keepends=True) if '"p0"' not in line))
    config = parse_config({"style": {"name": "anime", "source": "x"}, "sampling": {"negative_prompt": "a <photo> of style"}})
    bare = {**scores(reference="style_ref"), "drift": None}
    page = report(run, tmp_path / "r.html", scores=bare, base_pictures=tmp_path / "half", config=config)
    assert "All images have the negative prompt “a &lt;photo&gt; of style”." in page
    assert "no training log" in page and "not drawn" in page and "none were held out" in page
    assert "<h3>Aux" not in page and "<h3>Reference" not in page and "Drift" not in page


def test_heat_maps_have_a_section_where_there_are_any(finished_run: FinishedRun, tmp_path: Path) -> None:
    folder = tmp_path / "attention"
    write_json(folder / "attention.json", {"pictures": []})
    assert 'id="attention"' not in report(finished_run, tmp_path / "none.html", attention=folder)
    for name in ("images/a-r0.png", "heat/a-r0-01-sks.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        picture(3, (90, 20, 20), 256).save(folder / name)
    word = {"word": "<sks>", "file_name": "heat/a-r0-01-sks.png", "lowest": 0.0141, "highest": 0.0772}
    row = {"full_prompt": "<sks> style & a man", "file_name": "images/a-r0.png", "words": [word]}
    write_json(folder / "attention.json", {"pictures": [row]})
    page = report(finished_run, tmp_path / "with.html", attention=folder)
    section = page[page.index('<section id="attention">') :].partition("</section>")[0]
    assert 'href="#attention"' in page and section.count("<img") == 2
    assert "&lt;sks&gt; style &amp; a man" in section and "<b>&lt;sks&gt;</b> <small>1.4–7.7 %</small>" in section


def test_loss_curve_averages_leaves_out_nan_and_needs_points() -> None:
    rows = [{"step": step, "loss": 1.0 if step % 2 else 3.0} for step in range(1, 401)]
    svg = charts.loss_curve([*rows, {"step": 401, "loss": float("nan")}])
    assert "total ends at 2.000" in svg and "nan" not in svg.lower()
    assert charts.loss_curve([]) == charts.loss_curve([{"step": 1, "lr": 0.1}]) == ""
    assert "validation ends at 0.500" in charts.loss_curve([{"step": 1, "loss": 1.0, "validation_loss": 0.5}])
    assert charts.axis([0.02, 0.37], from_zero=True) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert charts.axis([1, 400], from_zero=True) == [0, 100, 200, 300, 400] and charts.axis([0.0], from_zero=True)[-1] >= 1


def check_in_browser(browser: Any, file: Path, width: int, scheme: str, pictures: int) -> Any:
    """Open a page: all pictures show, nothing overflows, complains or is asked of the network."""
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.set_default_timeout(120_000)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert page.evaluate("[...document.images].length") >= pictures
    assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)") == []
    right_edge = "e => e.getBoundingClientRect().right > innerWidth + 1"
    overflowing = f"[...document.querySelectorAll('body *')].filter({right_edge}).map(e => e.outerHTML.slice(0, 80))"
    assert page.evaluate(overflowing) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    light, dark = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    brightness = [sum(int(part) for part in re.findall(r"\d+", colour)[:3]) for colour in (light, dark)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert complaints == [] and [url for url in requests if not url.startswith("data:") and url != file.as_uri()] == []
    return page


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_browser(full: Path, browser: Any, width: int, scheme: str) -> None:
    page = check_in_browser(browser, full, width, scheme, 21)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('details .settings').getBoundingClientRect().height") > 100
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


def test_proof_shows_measures_beside_the_held_out_pictures_and_the_nearest_pairs(finished_run: FinishedRun, tmp_path: Path) -> None:
    found = scores()
    measured = {"style_score": estimate(1.05, 0.1), "copies": {**estimate(30.0), "low": 20.0, "high": 40.0}}
    found["style"] |= measured
    found["base"] |= {"style_score": estimate(0.02, 0.1), "copies": estimate(0.0)}
    found["by_category"] = {"people": {**found["by_category"]["people"], "style_score": estimate(0.97), "style_score_base": estimate(0.1)}}
    found["context"]["measures"] = {"names": list(measured), "extractors": {"style": "look", "copy": "thumbnail"}, "ids": {}}
    plain = report(finished_run, tmp_path / "plain.html")
    found["style"]["truth"], found["base"]["truth"] = estimate(21.5), estimate(44.0)
    found["measures"] = {
        "truth": {"truth": estimate(33.25, 1.5)}, "other_artists": {"truth": {"value": 41.5, "low": 38.25, "high": 44.0, "n": 9}},
        "reference": {"truth": estimate(30.75, 1.0), "style_score": estimate(1.13), "copies": {**estimate(4.0), "high": 6.0}},
        "notes": ["leakage: no captions"],
        "nearest": [{"file": "p3-r1.png", "style_ref": 2, "similarity": 0.987}], "copy_limit": 0.95,
    }  # fmt: skip
    page = report(finished_run, tmp_path / "proof.html", scores=found)
    assert 'id="proof"' not in plain
    for text in (
        "1.05",
        "held-out images: 1.13",
        "to the artist&#39;s others 33.25 (31.75 to 34.75); other artists&#39; drawings of the concept 41.50 (38.25 to 44.00); ",
        "held-out images: 30.75 (29.75 to 31.75)",
        "held-out images: 4.00 (4.00 to 6.00)",
        "0.97",
        "leakage: no captions",
        "0.99 · ",
        "<code>look</code>",
        "0.95",
    ):
        assert text in page.split('id="proof"')[1], text
    # A record of before this yardstick.
    del found["measures"]["other_artists"]
    older = report(finished_run, tmp_path / "older.html", scores=found)
    assert "held-out images: 30.75 (29.75 to 31.75)" in older and "other artists" not in older
    # Surely more copies than held-out pictures show by chance.
    assert "the model copies" in page and "the model copies" not in plain
