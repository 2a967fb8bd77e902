"""Captions of a model beside those of people: never in their place, and known apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import Problems
from components.styledata.captions import waiting, write_captioned, write_into_source
from components.styledata.manifest import Manifest
from components.styledata.metadata import Annotation, read_metadata, written_by
from tests.components.styledata.helpers import picture, scan

MODEL = "owner/vlm@0123"


def source(root: Path, **rows: dict[str, Any] | None) -> Path:
    """Pictures a to d in a flat folder, and a ``metadata.jsonl`` with a row for each that has one."""
    for index, name in enumerate("abcd"):
        root.mkdir(exist_ok=True)
        picture(index).save(root / f"{name}.png")
    lines = [json.dumps({"file_name": f"{name}.png", **row}) for name, row in rows.items() if row is not None]
    (root / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return root


def generated(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "generated_by": MODEL, "generated_text": text, **more}


@pytest.mark.parametrize(
    ("row", "by"),
    [
        ({}, None), ({"text": " "}, None), ({"text": "a dog"}, "person"), (generated("a dog"), MODEL),
        (generated("a dog") | {"text": "a  dog "}, MODEL), (generated("a dog") | {"text": "a black dog"}, "person"),
        ({"text": "a dog", "generated_by": MODEL}, "person"), (generated("a dog") | {"generated_by": 3}, "person"),
        (generated("a dog") | {"text": None}, None),
    ],
)  # fmt: skip
def test_who_wrote_a_caption(row: dict[str, Any], by: str | None) -> None:
    assert written_by(row) == by


ROWS: dict[str, dict[str, Any]] = {
    "a": {"text": "by hand", "note": 1}, "b": {"role": "thing"}, "c": generated("old"), "d": generated("old") | {"text": "edited"},
}  # fmt: skip


@pytest.mark.parametrize(("overwrite", "changed"), [(False, "b"), (True, "bc")])
def test_only_what_no_person_wrote_is_written(tmp_path: Path, overwrite: bool, changed: str) -> None:
    folder = source(tmp_path / "set", **ROWS)
    manifest = scan(folder, tmp_path / "scanned")
    assert [entry.path for entry in waiting(manifest, ["style_ref"], overwrite=overwrite)] == [f"{name}.png" for name in changed]
    # Though it is given more: somebody may have written in the meantime.
    files = write_into_source(folder, {f"{name}.png": "new" for name in "abcd"}, MODEL, overwrite=overwrite)
    assert files == [folder / "metadata.jsonl"]
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    expected = {name: row | generated("new") if name in changed else row for name, row in ROWS.items()}
    assert rows == [{"file_name": f"{name}.png", **row} for name, row in expected.items()]


def test_all_else_in_the_files_stays_byte_for_byte(tmp_path: Path) -> None:
    folder = source(tmp_path / "set")
    (folder / "sub").mkdir()
    picture(9).save(folder / "sub" / "e.png")
    old = b'\xef\xbb\xbf{"file_name": "a.png",  "text": "x\xc3\xa9", "tags": [1, 2]}\r\n\r\n{"file_name":"b.png","\xc3\xbc":null}\r\n'
    (folder / "real.jsonl").write_bytes(old)
    (folder / "real.jsonl").chmod(0o640)
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.jsonl").symlink_to("real.jsonl")
    (folder / "sub" / "metadata.jsonl").write_text('{"file_name": "e.png", "role": "thing"}')
    files = write_into_source(folder, {"a.png": "A", "b.png": "ß", "d.png": "D", "sub/e.png": "E", "c.png": ""}, MODEL)
    assert files == [folder / "sub/metadata.jsonl", folder / "metadata.jsonl"]
    first, blank, second, new, end = (folder / "real.jsonl").read_bytes().split(b"\n")
    assert [first, blank] == old.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:2] and second.endswith(b"\r") and end == b""
    assert json.loads(second) == {"file_name": "b.png", "ü": None, **generated("ß")} and "ß".encode() in second
    assert json.loads(new) == {"file_name": "d.png", **generated("D")}
    assert (folder / "metadata.jsonl").is_symlink() and (folder / "real.jsonl").stat().st_mode & 0o777 == 0o640
    assert read_metadata(folder, Problems())["sub/e.png"] == Annotation("E", "thing", MODEL)
    assert {path.name for path in folder.rglob(".*")} == set()


def test_the_deeper_file_that_names_a_picture_is_the_one_that_counts(tmp_path: Path) -> None:
    folder = source(tmp_path / "set")
    (folder / "sub").mkdir()
    picture(9).save(folder / "sub" / "e.png")
    far = '{"file_name": "sub/e.png", "text": "far"}\n'
    (folder / "metadata.jsonl").write_text(far)
    (folder / "sub" / "metadata.jsonl").write_text('{"file_name": "e.png"}\n')
    assert write_into_source(folder, {"sub/e.png": "E"}, MODEL) == [folder / "sub" / "metadata.jsonl"]
    assert (folder / "metadata.jsonl").read_text() == far
    assert read_metadata(folder, Problems())["sub/e.png"].caption == "E"


def test_a_style_set_with_captions(tmp_path: Path) -> None:
    folder = source(tmp_path / "set", **ROWS)
    manifest = scan(folder, tmp_path / "scanned")
    assert [entry.caption_by for entry in manifest.entries] == ["person", None, MODEL, "person"]
    made = write_captioned(manifest, {f"{name}.png": f"new {name}" for name in "abc"}, "other@1", tmp_path / "out")
    assert [(entry.caption, entry.caption_by) for entry in made.entries] == [
        ("by hand", "person"), ("new b", "other@1"), ("old", MODEL), ("edited", "person"),
    ]  # fmt: skip
    assert Manifest.load(tmp_path / "out") == made and made.digest != manifest.digest
    # Laid into the source, its metadata say the same.
    (folder / "metadata.jsonl").write_bytes((tmp_path / "out" / "images" / "metadata.jsonl").read_bytes())
    assert scan(folder, tmp_path / "again") == made


def test_without_captions_the_set_is_the_same(tmp_path: Path) -> None:
    manifest = scan(source(tmp_path / "set", **ROWS), tmp_path / "scanned")
    write_captioned(manifest, {"b.png": ""}, MODEL, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == (tmp_path / "scanned" / "manifest.jsonl").read_bytes()
    assert not (tmp_path / "out" / "images").exists()
