import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.core.config import AuxSection, StyleSection
from components.core.content import digest_folder
from components.core.errors import InputError, Problems
from components.styledata.captions import write_captioned
from components.styledata.manifest import Manifest, scan_style
from components.styledata.metadata import Annotation, read_metadata
from tests.components.styledata.helpers import encoded, grant, picture, scan, style_folder


def flat_folder(root: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(picture(index), "PNG"))
    return root


def test_three_folders_with_metadata(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=4, pool=3, reference=5)
    manifest = scan(source, tmp_path / "set", aux="curated")
    assert [len(manifest.split(name)) for name in ("style_ref", "aux_pool", "reference")] == [4, 3, 5]
    first = manifest.split("style_ref")[0]
    data = (source / "style_ref/00.png").read_bytes()
    assert (first.path, first.caption, first.role) == ("style_ref/00.png", "scene 0", "character")
    assert (first.sha256, first.width, first.height, first.mode, first.format) == (hashlib.sha256(data).hexdigest(), 64, 64, "RGB", "PNG")
    assert first.file(tmp_path / "set").read_bytes() == data
    assert [entry.path for entry in manifest.entries] == sorted(entry.path for entry in manifest.entries)
    assert Manifest.load(tmp_path / "set") == manifest
    row = json.loads((tmp_path / "set/manifest.jsonl").read_text().splitlines()[0])
    documented = {"path", "sha256", "phash", "width", "height", "mode", "format", "caption", "caption_by", "role", "split", "problem"}
    assert documented < set(row) and set(row) - documented == {"spread", "animated"}


def test_rights_are_part_of_the_set_only_where_they_are_recorded(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=3)
    before = scan(source, tmp_path / "before")
    # What others keep in these columns is not refused.
    grant(source, {"style_ref/00.png": {"license": " CC0-1.0 ", "author": "Ann", "source": {"a": 1}}, "style_ref/01.png": {"license": 7}})
    manifest = scan(source, tmp_path / "set")
    assert (tmp_path / "set/manifest.jsonl").read_bytes() == (tmp_path / "before/manifest.jsonl").read_bytes()
    assert manifest.digest == before.digest and digest_folder(tmp_path / "set") == digest_folder(tmp_path / "before")
    recorded = scan(source, tmp_path / "set", rights=True)
    assert [entry.rights for entry in recorded.entries] == [{"license": "CC0-1.0", "author": "Ann"}, {}, {}]
    assert recorded.digest != before.digest and Manifest.load(tmp_path / "set") == recorded
    grant(source, {"style_ref/02.png": {"concept": "house"}})
    assert scan(source, tmp_path / "set").digest == before.digest
    named = scan(source, tmp_path / "set", concepts=True)
    assert [entry.concept for entry in named.entries] == [None, None, "house"] and Manifest.load(tmp_path / "set") == named
    # Captions that are added later leave them alone.
    captioned = write_captioned(recorded, {"style_ref/00.png": "new"}, "owner/model@1", tmp_path / "captioned")
    assert [entry.rights for entry in captioned.entries] == [entry.rights for entry in recorded.entries]


def test_flat_folder_with_sub_folders(tmp_path: Path) -> None:
    source = flat_folder(tmp_path / "source", "b.png", "a.jpg", "character/x.png", "aux_pool/p.png", "reference/r.png", ".hidden.png")
    manifest = scan(source, tmp_path / "set")
    assert [entry.path for entry in manifest.split("style_ref")] == ["a.jpg", "b.png", "character/x.png"]
    assert [entry.path for entry in manifest.split("reference")] == ["reference/r.png"]
    assert manifest.split("aux_pool") == ()
    assert manifest.entries[2].known_role == ("character", "folder")
    assert replace(manifest.entries[2], role="background").known_role == ("background", "metadata")
    assert manifest.entries[0].known_role == (None, None)


def test_other_files_are_passed_over_and_noted(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=3)
    (source / "notes.txt").write_text("x")
    (source / "style_ref/photo.heic").write_bytes(b"x")
    flat_folder(source, "stray.png")
    manifest = scan(source, tmp_path / "set")
    assert manifest.ignored == ("notes.txt", "stray.png", "style_ref/photo.heic")
    assert len(manifest.entries) == 3
    assert Manifest.load(tmp_path / "set").ignored == manifest.ignored


def test_damaged_pictures_become_entries_with_a_reason_and_links_are_followed(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=3)
    (source / "style_ref/words.png").write_text("no picture")
    (source / "style_ref/cut.jpg").write_bytes(encoded(picture(9), "JPEG")[:300])
    (source / "style_ref/empty.gif").write_bytes(b"")
    picture(50).save(tmp_path / "real.png")
    (source / "style_ref/link.png").symlink_to(tmp_path / "real.png")
    manifest = scan(source, tmp_path / "set")
    problems = {entry.path: entry.problem for entry in manifest.entries if entry.problem}
    assert sorted(problems) == ["style_ref/cut.jpg", "style_ref/empty.gif", "style_ref/words.png"]
    assert problems["style_ref/empty.gif"] == "the file is empty"
    assert len(manifest.usable("style_ref")) == 4 and not (tmp_path / "set/images/style_ref/link.png").is_symlink()
    limited = scan(source, tmp_path / "set", max_pixels=64 * 64 - 1)
    assert all("too large" in (entry.problem or "") for entry in limited.entries if entry.path not in problems)


def test_the_set_depends_on_content_alone(tmp_path: Path) -> None:
    one, two = style_folder(tmp_path / "one", style=5), style_folder(tmp_path / "two", style=5)
    first, second = scan(one, tmp_path / "set1"), scan(two, tmp_path / "set2")
    assert first.digest == second.digest and digest_folder(tmp_path / "set1") == digest_folder(tmp_path / "set2")
    picture(77).save(two / "style_ref/00.png")
    assert scan(two, tmp_path / "set2").digest != first.digest
    assert not list((tmp_path / "home" / "scratch").iterdir())


@pytest.mark.parametrize("make", ["missing", "empty", "hidden", "no_picture", "empty_style_ref"])
def test_folders_without_pictures(tmp_path: Path, make: str) -> None:
    source = tmp_path / "source"
    if make != "missing":
        source.mkdir()
    if make == "hidden":
        flat_folder(source, ".a.png")
    if make == "no_picture":
        (source / "a.txt").write_text("x")
    if make == "empty_style_ref":
        flat_folder(source, "reference/a.png")
        (source / "style_ref").mkdir()
    with pytest.raises(InputError) as caught:
        scan(source, tmp_path / "set")
    assert caught.value.exit_code == 2 and str(source) in str(caught.value)
    assert not (tmp_path / "set").exists()
    with pytest.raises(InputError, match="holds no manifest"):
        Manifest.load(tmp_path)


def test_the_pool_is_needed_by_curation_alone_and_may_be_elsewhere_as_the_reference(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=3)
    with pytest.raises(InputError, match=r"aux\.pool.*curated.*generated"):
        scan(source, tmp_path / "set", aux="curated")
    assert len(scan(source, tmp_path / "set", aux="generated").entries) == 3
    elsewhere = str(flat_folder(tmp_path / "other", "one.png", "sub/two.png"))
    style = StyleSection(name="x", source=str(style_folder(source, style=3, pool=2, reference=2)), reference=elsewhere)
    manifest = scan_style(style, AuxSection(source="curated", pool=elsewhere), tmp_path / "set")
    for split in ("reference", "aux_pool"):
        assert [entry.path for entry in manifest.split(split)] == [f"{split}/one.png", f"{split}/sub/two.png"]


def test_all_that_is_wrong_with_a_source_is_said_at_once(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=3)
    (source / "style_ref/words.png").write_text("no picture")
    (source / "style_ref/link.png").symlink_to(tmp_path / "gone.png")
    (source / "metadata.jsonl").write_text('{"file_name": "gone.png"}\nnot json\n')
    with pytest.raises(InputError) as caught:
        scan(source, tmp_path / "set", aux="curated")
    for said in ("aux.pool", "words.png: ", "link.png", "line 1: names gone.png", "line 2: not JSON"):
        assert said in str(caught.value), said
    assert caught.value.exit_code == 2 and not (tmp_path / "set").exists()


def test_metadata_in_sub_folders_wins(tmp_path: Path) -> None:
    flat_folder(tmp_path, "style_ref/a.png", "b.png")
    # Some characters only look like line ends.
    rows = [
        '{"file_name": "style_ref/a.png", "text": "far"}',
        "",
        '{"file_name": "b.png", "text": "  two\u2028blanks\x85here ", "other": 1}',
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "style_ref/metadata.jsonl").write_text('{"file_name": "a.png", "text": "near", "role": "thing"}\n')
    expected = {"style_ref/a.png": Annotation("near", "thing", "person"), "b.png": Annotation("two blanks here", None, "person")}
    assert read_metadata(tmp_path, Problems()) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "not JSON"),
        ("[1]", "has no file_name"),
        ('{"text": "x"}', "has no file_name"),
        ('{"file_name": "gone.png"}', "which is not there"),
        ('{"file_name": "../a.png"}', "which is not there"),
        ('{"file_name": "a.png", "text": 3}', "text is 3"),
        ('{"file_name": "a.png", "role": "hero"}', "role is 'hero'; expected character or background or thing"),
        ('{"file_name": "a.png"}\n{"file_name": "a.png"}', "a second time"),
    ],
)
def test_bad_metadata_names_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    source = flat_folder(tmp_path / "source", "a.png")
    picture(1).save(tmp_path / "a.png")
    (source / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"metadata\.jsonl, line [12]") as caught:
        scan(source, tmp_path / "set")
    assert reason in str(caught.value)
    assert not (tmp_path / "set").exists()
