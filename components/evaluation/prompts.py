"""Prompt banks: the prompts that every model draws, so that scores of different models are comparable."""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import InputError

BANKS = Path(__file__).parent / "banks"
BUILTIN_BANKS = ("builtin", "pocket", "art", "builtin-selection", "pocket-selection", "art-selection")
"""``builtin`` has 1,562 prompts, the others 64 each; the selection banks share no prompt with the scoring banks."""
CATEGORIES = ("people", "people in places", "backgrounds", "things")
UNCATEGORISED = "other"

# An id becomes part of a file name and of a seed, so it has to be plain.
_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
_ID_COLUMNS = ("id", "prompt_id")
_TEXT_COLUMNS = ("prompt", "text", "caption")
_CATEGORY_COLUMNS = ("category",)


@dataclass(frozen=True)
class Prompt:
    """One prompt of a bank: a noun phrase that fits into ``a photo of {prompt}``, with a stable id and a category."""

    id: str
    text: str
    category: str = UNCATEGORISED


def load_bank(name_or_path: str | Path, limit: int | None = None) -> list[Prompt]:
    """Read a prompt bank, one of :data:`BUILTIN_BANKS` or a file; only the first ``limit`` prompts if given.

    Files are ``.txt`` (one prompt per line), ``.csv``/``.tsv`` with a header (``prompt``, ``text`` or ``caption``; optionally ``id`` and
    ``category``; in upper or lower case, so PartiPrompts fits), or ``.jsonl`` with these keys. Empty lines and lines that begin with ``#``
    are skipped. The built-in banks alternate their categories, so any prefix is mixed. A prompt without an id gets one from its text, so
    inserting a line changes no other prompt's seed.
    """
    path = bank_path(name_or_path)
    readers: dict[str, Callable[[Path], Iterator[tuple[int, Mapping[str, Any]]]]] = {
        ".txt": _read_txt,
        ".csv": lambda file: _read_table(file, ","),
        ".tsv": lambda file: _read_table(file, "\t"),
        ".jsonl": _read_jsonl,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(str(path), f"a prompt bank cannot be a {path.suffix or 'file without a suffix'}", expected=", ".join(readers))
    prompts = _collect(path, reader)
    if not prompts:
        raise InputError(str(path), "the prompt bank is empty", expected="at least one prompt", remedy="write one prompt per line")
    return prompts[:limit]


def bank_path(name_or_path: str | Path) -> Path:
    """The file of a bank: a built-in one by name, else the path itself."""
    if str(name_or_path) in BUILTIN_BANKS:
        return BANKS / f"{name_or_path}.tsv"
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        expected = f"one of {', '.join(BUILTIN_BANKS)}, or a txt, csv, tsv or jsonl file"
        raise InputError(str(name_or_path), "no such prompt bank", expected=expected, remedy="fix sampling.bank")
    return path


def shared_prompts(first: Sequence[Prompt], second: Sequence[Prompt]) -> list[str]:
    """Texts of ``first`` that also occur in ``second``, ignoring case and punctuation."""
    known = {_words(prompt.text) for prompt in second}
    return [prompt.text for prompt in first if _words(prompt.text) in known]


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))


def _collect(path: Path, reader: Callable[[Path], Iterator[tuple[int, Mapping[str, Any]]]]) -> list[Prompt]:
    prompts: list[Prompt] = []
    lines: dict[str, int] = {}
    repeated: dict[str, int] = {}
    for line, row in reader(path):
        text = " ".join(_text_of(row, _TEXT_COLUMNS).split())
        if not text:
            raise InputError(f"{path}:{line}", "the prompt is empty", expected="a text", remedy="fill it in or remove the line")
        identifier = _text_of(row, _ID_COLUMNS)
        if not identifier:
            # A text without an id may occur more than once, as in PartiPrompts; each time it is drawn with another seed.
            stem = "p" + hashlib.sha256(text.encode()).hexdigest()[:10]
            repeated[stem] = repeated.get(stem, 0) + 1
            identifier = stem if repeated[stem] == 1 else f"{stem}-{repeated[stem]}"
        _check_id(path, line, identifier, lines)
        lines[identifier] = line
        prompts.append(Prompt(identifier, text, _text_of(row, _CATEGORY_COLUMNS) or UNCATEGORISED))
    return prompts


def _check_id(path: Path, line: int, identifier: str, lines: Mapping[str, int]) -> None:
    if not _ID.match(identifier):
        raise InputError(
            f"{path}:{line}",
            f"the id {identifier!r} cannot be part of a file name",
            expected="at most 80 letters, digits, dots, hyphens and underscores",
        )
    if identifier in lines:
        raise InputError(
            f"{path}:{line}",
            f"the id {identifier!r} is already used on line {lines[identifier]}",
            expected="a different id for every prompt, since images are named and seeded by it",
            remedy="rename one of the two, or leave the id column out",
        )


def _text_of(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    for column in columns:
        value = row.get(column)
        if value is not None and str(value).strip():
            return str(value).strip()
    return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(str(path), "not UTF-8 text", expected="a prompt bank in UTF-8") from error


def _read_txt(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_lines(path), 1):
        if line.strip() and not line.startswith("#"):
            yield number, {"prompt": line}


def _read_table(path: Path, delimiter: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header: list[str] | None = None
    # A quoted field may span lines, hence the reader's own line count (a record's last line).
    reader = csv.reader([line + "\n" for line in _lines(path)], delimiter=delimiter)
    for record in reader:
        if not any(cell.strip() for cell in record) or (record[0].startswith("#")):
            continue
        if header is None:
            header = [cell.strip().lower() for cell in record]
            if not set(header) & set(_TEXT_COLUMNS):
                raise InputError(
                    f"{path}:{reader.line_num}",
                    f"the column 'prompt' is missing (found: {', '.join(record)})",
                    expected="a header with prompt (or text), and optionally id and category",
                )
            continue
        if len(record) > len(header):
            raise InputError(
                f"{path}:{reader.line_num}",
                f"{len(record)} fields under {len(header)} columns",
                expected="as many fields as columns",
                remedy='put a field that holds the separator in "quotes"',
            )
        yield reader.line_num, dict(zip(header, record, strict=False))


def _read_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}", f"not JSON ({error.msg})", expected='a line such as {"prompt": "a red car"}') from error
        if isinstance(row, str):
            row = {"prompt": row}
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}", f"a {type(row).__name__}", expected='an object such as {"prompt": "a red car"}')
        row = {str(key).lower(): value for key, value in row.items()}
        if not set(row) & set(_TEXT_COLUMNS):
            raise InputError(f"{path}:{number}", "the key 'prompt' is missing", expected='an object such as {"prompt": "a red car"}')
        yield number, row
