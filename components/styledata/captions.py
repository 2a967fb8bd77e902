"""Captions written by a model: which pictures need one, and how they are stored alongside what people have written."""

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.paths import atomic_file, write_jsonl
from components.styledata.manifest import IMAGES, ImageEntry, Manifest
from components.styledata.metadata import METADATA, PERSON, written_by
from components.styledata.source import walk


def is_wanted(caption_by: str | None, *, overwrite: bool = False) -> bool:
    """Whether a model may write a caption: if there is none or, with ``overwrite``, only a model's. A person's is always kept."""
    return caption_by is None or (overwrite and caption_by != PERSON)


def waiting(manifest: Manifest, splits: Collection[str], *, overwrite: bool = False) -> list[ImageEntry]:
    """The usable pictures of these splits that a model may caption."""
    entries = (entry for entry in manifest.entries if entry.split in splits and entry.problem is None)
    return [entry for entry in entries if is_wanted(entry.caption_by, overwrite=overwrite)]


def write_captioned(manifest: Manifest, captions: Mapping[str, str], by: str, folder: Path) -> Manifest:
    """Write a style set's manifest into ``folder`` with ``captions``, by path, recorded as written ``by`` a model; returns the manifest.

    If there are any, ``images/metadata.jsonl`` is written too, with all captions and roles as a source has them.
    """
    made = Manifest.of((_captioned(entry, captions.get(entry.path), by) for entry in manifest.entries), manifest.ignored)
    made.write(folder)
    if any(captions.values()):
        write_jsonl(folder / IMAGES / METADATA, [_row(entry) for entry in made.entries if entry.caption or entry.role])
    return made


def _captioned(entry: ImageEntry, caption: str | None, by: str) -> ImageEntry:
    return replace(entry, caption=caption, caption_by=by) if caption and is_wanted(entry.caption_by) else entry


def _row(entry: ImageEntry) -> dict[str, Any]:
    generated = {} if entry.caption_by in (None, PERSON) else {"generated_by": entry.caption_by, "generated_text": entry.caption}
    told = {"text": entry.caption, "role": entry.role}
    return {"file_name": entry.path, **{key: value for key, value in told.items() if value}, **generated}


def write_into_source(source: Path, captions: Mapping[str, str], by: str, *, overwrite: bool = False) -> list[Path]:
    """Write captions, by the pictures' paths in a source, into its ``metadata.jsonl`` files; returns the files written.

    A caption goes into the row that counts for its picture, or else into a new row at the source's root. All other columns, rows and
    lines stay as they are, and so does a caption that somebody has written in the meantime.
    """
    rest = {path: caption for path, caption in captions.items() if caption}
    written: list[Path] = []
    # If several files name a picture, the deepest counts.
    for relative in sorted(_metadata_files(source), key=lambda path: (-path.count("/"), path)):
        lines = _lines(source / relative)
        changed = False
        for number, line in enumerate(lines):
            row = json.loads(line) if line.strip() else {}
            path = (PurePosixPath(relative).parent / str(row.get("file_name"))).as_posix()
            if (caption := rest.pop(path, None)) is not None and is_wanted(written_by(row), overwrite=overwrite):
                lines[number] = _line({**row, **_generated(caption, by)}) + ("\r" if line.endswith("\r") else "")
                changed = True
        if changed:
            _replace(source / relative, lines)
            written.append(source / relative)
    if rest:
        root = source / METADATA
        lines = _lines(root) if root.is_file() else []
        while lines and not lines[-1].strip():
            lines.pop()
        _replace(root, [*lines, *(_line({"file_name": path, **_generated(caption, by)}) for path, caption in sorted(rest.items())), ""])
        written += [] if root in written else [root]
    return written


def _metadata_files(source: Path) -> Iterable[str]:
    return (path for path in walk(source) if PurePosixPath(path).name == METADATA)


def _lines(file: Path) -> list[str]:
    # As bytes, so that another system's line endings are kept.
    return file.read_bytes().decode("utf-8-sig").split("\n")


def _generated(caption: str, by: str) -> dict[str, str]:
    return {"text": caption, "generated_by": by, "generated_text": caption}


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _replace(file: Path, lines: Iterable[str]) -> None:
    # A symbolic link stays one, and the new file has the old one's permissions.
    file = file.resolve()
    with atomic_file(file) as temporary:
        temporary.write_bytes("\n".join(lines).encode())
        if file.is_file():
            shutil.copymode(file, temporary)
