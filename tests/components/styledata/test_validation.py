import json
import re
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from components.core.content import digest_folder
from components.core.errors import GateRefused
from components.styledata.rules import rules
from components.styledata.validation import RuleResult, ValidationReport, validate_style_set
from tests.components.styledata.helpers import encoded, grant, picture, png_header_bomb, scan, style_folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return style_folder(tmp_path / "source", style=16, pool=16, reference=4)


def validate(tmp_path: Path, source: Path, *, side: int = 64, needs_roles: bool = True) -> ValidationReport:
    scan(source, tmp_path / "set", aux="curated" if (source / "aux_pool").is_dir() else "none")
    return validate_style_set(tmp_path / "set", minimum_side=side, needs_roles=needs_roles, out=tmp_path / "validation")


def rule(report: ValidationReport, name: str) -> RuleResult:
    return next(result for result in report.rules if result.name == name)


def failing(report: ValidationReport, *, captions: bool = False) -> dict[str, list[str]]:
    """Failed rules and their files; most tests add pictures that nobody captioned, which is not their subject."""
    failed = [result for result in report.rules if not result.passed and (captions or result.name != "captions_present")]
    return {result.name: [failure.path for failure in result.failures] for result in failed}


def test_a_good_set_passes_and_is_written(tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        report = validate(tmp_path, source)
    assert "docs site" not in caplog.text  # Great Expectations would make one.
    assert failing(report) == {} and report.passed and report.warnings == []
    report.raise_if_failed()
    assert report.counts == {"style_ref": 16, "aux_pool": 16, "reference": 4}
    written = json.loads((tmp_path / "validation/validation.json").read_text())
    assert written == json.loads(json.dumps(report.as_json())) and set(written) == {"passed", "rules", "counts"}
    assert set(written["rules"][0]) == {"name", "severity", "passed", "message", "failures"}


def test_rights_are_asked_for_only_by_a_rule_and_all_that_lack_them_are_named(tmp_path: Path, source: Path) -> None:
    granted = {"license": "CC-BY-4.0", "author": "Ann"}
    named = [f"{split}/{index:02d}.png" for split in ("style_ref", "aux_pool") for index in range(16)]
    grant(source, dict.fromkeys(named[2:], granted) | {"style_ref/01.png": {"license": "CC-BY-4.0"}})
    manifest = scan(source, tmp_path / "set", aux="curated", rights=True)
    check = partial(validate_style_set, tmp_path / "set", minimum_side=64, needs_roles=False, out=tmp_path / "validation")
    assert "rights" not in {each.name for each in rules(manifest, minimum_side=64, needs_roles=False)}
    report = check(rights={"licenses": ["CC-BY-4.0"]})
    # The reference is only measured by.
    assert failing(report) == {"rights": ["style_ref/00.png", "style_ref/01.png"]} and not report.passed
    assert [failure.reason for failure in rule(report, "rights").failures] == [
        "has no license", "its license CC-BY-4.0 requires an author, and none is named",
    ]  # fmt: skip
    grant(source, {"style_ref/00.png": granted, "style_ref/01.png": granted})
    scan(source, tmp_path / "set", aux="curated", rights=True)
    assert check(rights={"licenses": ["CC-BY-4.0"]}).passed


def test_a_refusal_lists_every_file_with_its_reason(tmp_path: Path, source: Path) -> None:
    (source / "style_ref/words.png").write_text("no picture")
    (source / "style_ref/cut.jpg").write_bytes(encoded(picture(9), "JPEG")[:300])
    (source / "reference/bomb.png").write_bytes(png_header_bomb())
    Image.new("RGB", (1, 1), "red").save(source / "style_ref/dot.png")
    with pytest.raises(GateRefused) as caught:
        validate(tmp_path, source).raise_if_failed()
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "remove these files" in caught.value.remedy and "remove these files" in message.splitlines()[-1]
    for line in (
        r"style_ref/words\.png: not an image",
        r"style_ref/cut\.jpg: damaged or truncated",
        r"reference/bomb\.png: too large",
        r"style_ref/dot\.png: its shorter side is 1 px",
        r"style_ref/dot\.png: its colours spread by 0\.0 of 255",
    ):
        assert re.search(line, message), message


@pytest.mark.parametrize(
    ("count", "names"),
    [(2, {"style_ref_count", "style_ref_advised_count"}), (3, {"style_ref_advised_count"}), (15, set()), (21, {"style_ref_advised_count"})],
)
def test_count(tmp_path: Path, count: int, names: set[str]) -> None:
    report = validate(tmp_path, style_folder(tmp_path / "source", style=count, reference=1))
    assert set(failing(report)) == names
    assert report.passed == (count >= 3)
    if names:
        assert rule(report, "style_ref_advised_count").message.endswith(f"found {count}")


def test_a_use_of_the_set_may_need_more_images(tmp_path: Path) -> None:
    scan(style_folder(tmp_path / "source", style=4, reference=1), tmp_path / "set")
    check = partial(validate_style_set, tmp_path / "set", minimum_side=64, needs_roles=False, out=tmp_path / "validation")
    assert check().passed and check(least_style_ref=4).passed
    report = check(least_style_ref=5)
    assert not report.passed and [result.name for result in report.failed("hard")] == ["style_ref_enough_to_select"]
    with pytest.raises(GateRefused, match=r"at least 5 usable images.*copies \(selection\.score, selection\.limits\); found 4"):
        report.raise_if_failed()


@pytest.mark.parametrize(
    ("side", "passed", "names"),
    [(64, True, []), (65, True, ["advised_side"]), (128, True, ["advised_side"]), (129, False, ["minimum_side", "advised_side"])],
)
def test_minimum_side_against_the_bases_resolution(tmp_path: Path, side: int, passed: bool, names: list[str]) -> None:
    report = validate(tmp_path, style_folder(tmp_path / "source", reference=2), side=side)
    assert (report.passed, list(failing(report))) == (passed, names)
    if names:
        assert len(rule(report, "advised_side").failures) == 18


def test_each_rule_finds_its_pictures(tmp_path: Path, source: Path) -> None:
    style, pool, reference = (source / name for name in ("style_ref", "aux_pool", "reference"))
    for width, height, name in ((300, 64, "banner"), (64, 192, "tall"), (128, 64, "double")):
        picture(width, width, height).save(style / f"{name}.png")
    picture(85, 16, 16).save(reference / "small.png")
    Image.new("RGB", (64, 64), (90, 90, 90)).save(style / "flat.png")
    Image.new("RGB", (64, 64), (9, 90, 90)).save(reference / "flat.png")
    for copy, of in (
        (style / "copy.png", style / "03.png"), (reference / "leak.png", style / "05.png"), (pool / "copy.png", pool / "01.png"),
        (reference / "copy.png", reference / "01.png"), (pool / "style.png", style / "00.png"),
    ):  # fmt: skip
        copy.write_bytes(of.read_bytes())
    (style / "again.jpg").write_bytes(encoded(picture(7), "JPEG", quality=60))
    (reference / "again.webp").write_bytes(encoded(picture(4, 200, 200), "WEBP", quality=70))
    report = validate(tmp_path, source)
    hard = {
        "aspect_limit": ["style_ref/banner.png"], "not_constant": ["style_ref/flat.png"],
        "no_exact_duplicates": ["style_ref/copy.png"], "no_leakage": ["style_ref/05.png"],
    }  # fmt: skip
    soft = {
        "style_ref_advised_count": [], "advised_side": ["reference/small.png"],
        "advised_aspect": ["style_ref/banner.png", "style_ref/tall.png"], "reference_not_constant": ["reference/flat.png"],
        "no_near_duplicates": ["style_ref/again.jpg"], "no_near_leakage": ["style_ref/04.png"],
        "other_duplicates": ["aux_pool/copy.png", "reference/copy.png"], "pool_is_separate": ["aux_pool/style.png"],
    }  # fmt: skip
    assert failing(report) == hard | soft
    assert {result.name for result in report.failed("hard")} == set(hard)
    assert rule(report, "no_exact_duplicates").failures[0].reason == "equals style_ref/03.png"
    assert rule(report, "no_leakage").failures[0].reason == "equals reference/leak.png"
    assert any("style_ref/again.jpg looks like style_ref/07.png" in warning for warning in report.warnings)


def test_captions(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", reference=1)
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    rows[0]["text"], rows[1]["text"], rows[2]["text"] = " ", "word " * 51, "word " * 50
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = validate(tmp_path, source)
    assert failing(report, captions=True) == {"captions_present": ["style_ref/00.png"], "caption_length": ["style_ref/01.png"]}
    assert report.passed and rule(report, "caption_length").failures[0].reason == "its caption has 51 words"


@pytest.mark.parametrize("needs_roles", [True, False])
def test_role_coverage(tmp_path: Path, needs_roles: bool) -> None:
    source = tmp_path / "source"
    (source / "character").mkdir(parents=True)
    for index in range(15):
        picture(index).save(source / f"character/{index}.png")
    report = validate(tmp_path, source, needs_roles=needs_roles)
    assert not rule(report, "role_coverage").passed and rule(report, "role_coverage").message.endswith("missing background")
    assert report.passed is not needs_roles
    (source / "background").mkdir()
    picture(99).save(source / "background/a.png")
    assert rule(validate(tmp_path, source, needs_roles=needs_roles), "role_coverage").passed


def test_unknown_roles_are_left_to_the_split(tmp_path: Path) -> None:
    report = validate(tmp_path, style_folder(tmp_path / "source", reference=1, roles=False))
    assert report.passed and "role_coverage" not in {result.name for result in report.rules}


def test_missing_reference_animation_and_passed_over_files_warn(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=15)
    (source / "style_ref/moving.gif").write_bytes(encoded(picture(70), "GIF", save_all=True, append_images=[picture(71)]))
    (source / "notes.txt").write_text("x")
    report = validate(tmp_path, source, needs_roles=False)
    assert report.passed
    assert failing(report) == {"single_frame": ["style_ref/moving.gif"], "nothing_passed_over": ["notes.txt"], "reference_given": []}
    assert any("FID and KID use the StyleRef images" in warning for warning in report.warnings)


def test_the_page_is_self_contained_and_the_result_is_reproducible(tmp_path: Path, source: Path) -> None:
    (source / "style_ref/<b>.png").write_text("no picture")
    picture(3, 20, 20).save(source / "style_ref/tiny.png")
    validate(tmp_path, source)
    first = digest_folder(tmp_path / "validation")
    page = (tmp_path / "validation/validation.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", page) and "<script" not in page and "url(" not in page
    assert "refused" in page and "tiny.png" in page and "&lt;b&gt;.png" in page and "<b>" not in page
    assert page.count("data:image/") >= 17
    validate(tmp_path, source)
    assert digest_folder(tmp_path / "validation") == first
