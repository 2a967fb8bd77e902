"""The Hugging Face ImageFolder convention: ``metadata.jsonl`` with ``file_name``, ``text``, our ``role``, and an image's rights.

A caption that a model wrote has two more columns: ``generated_by``, the model, and ``generated_text``, what it wrote. As soon as ``text``
differs from that, somebody has edited it, and the caption counts as a person's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError, Problems
from components.core.rights import FIELDS
from components.styledata.source import walk

METADATA = "metadata.jsonl"
PERSON = "person"
ROLES = ("character", "background", "thing")


@dataclass(frozen=True)
class Annotation:
    """What the metadata says about one picture; ``caption_by`` is ``person`` or the model that wrote the caption.

    ``rights`` has those of :data:`components.core.rights.FIELDS` that are texts; ``concept`` names what is shown.
    """

    caption: str | None = None
    role: str | None = None
    caption_by: str | None = None
    rights: Mapping[str, str] = field(default_factory=dict)
    concept: str | None = None


def read_metadata(folder: Path, problems: Problems) -> dict[str, Annotation]:
    """All annotations in ``folder``, keyed by the picture's path relative to it; errors are collected in ``problems``.

    ``metadata.jsonl`` may lie at the root and in any sub-folder; its ``file_name`` is relative to the folder it lies in.
    If two describe the same picture, the deeper one counts.
    """
    annotations: dict[str, Annotation] = {}
    files = [path for path in walk(folder) if PurePosixPath(path).name == METADATA]
    for relative in sorted(files, key=lambda path: (path.count("/"), path)):
        with problems.collect():
            annotations.update(_read_file(folder, PurePosixPath(relative), problems))
    return annotations


def _read_file(folder: Path, relative: PurePosixPath, problems: Problems) -> dict[str, Annotation]:
    file = folder / relative
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(str(file), f"cannot be read as UTF-8 text ({error})", expected="one JSON object per line") from error
    annotations: dict[str, Annotation] = {}
    for number, line in enumerate(lines, start=1):
        with problems.collect():
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            row = _parse(line, where)
            name = (relative.parent / row["file_name"]).as_posix()
            if ".." in PurePosixPath(name).parts or not (folder / name).is_file():
                raise InputError(where, f"names {row['file_name']}, which is not there", expected="a file relative to this folder")
            if name in annotations:
                raise InputError(where, f"names {row['file_name']} a second time", expected="one line per image")
            annotations[name] = Annotation(
                _caption(row, where), _role(row, where), written_by(row), _rights(row), _joined(row.get("concept")) or None
            )
    return annotations


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(where, f"not JSON ({error})", expected="one JSON object per line") from error
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or not row["file_name"]:
        raise InputError(where, "has no file_name", expected='for example {"file_name": "a.png", "text": "a man", "role": "character"}')
    return row


def written_by(row: Mapping[str, Any]) -> str | None:
    """Who wrote a row's caption: ``person``, a model's ``generated_by``, or None where there is none."""
    text = _joined(row.get("text"))
    if not text:
        return None
    model = row.get("generated_by")
    return model if isinstance(model, str) and model and text == _joined(row.get("generated_text")) else PERSON


def _joined(text: Any) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""


def _rights(row: Mapping[str, Any]) -> dict[str, str]:
    # Others use these columns in their own ways, so values that are not text are ignored.
    return {name: text for name in FIELDS if (text := _joined(row.get(name)))}


def _caption(row: dict[str, Any], where: str) -> str | None:
    text = row.get("text")
    if text is not None and not isinstance(text, str):
        raise InputError(where, f"text is {text!r}", expected="a string")
    return _joined(text) or None


def _role(row: dict[str, Any], where: str) -> str | None:
    role = row.get("role")
    if role is not None and role not in ROLES:
        raise InputError(where, f"role is {role!r}", expected=" or ".join(ROLES))
    return role
