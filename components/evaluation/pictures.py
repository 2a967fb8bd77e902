"""Folders of drawn pictures as the scores and the report read them, from the rows of ``metadata.jsonl``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.content import digest_value
from components.core.errors import InputError
from components.core.paths import read_jsonl
from components.evaluation.prompts import CATEGORIES


@dataclass(frozen=True)
class Picture:
    """One drawn picture: its file, and its prompt (bank text, without the rare token)."""

    path: Path
    prompt_id: str
    category: str
    prompt: str
    full_prompt: str
    repeat: int


def read_pictures(folder: Path) -> list[Picture]:
    """The pictures of a sampled folder, in the order of its ``metadata.jsonl``; every file that it lists must exist."""
    folder = Path(folder)
    listing = folder / "metadata.jsonl"
    if not listing.is_file():
        raise InputError(str(folder), "no metadata.jsonl", expected="a folder of sampled images", remedy="sample the bank again")
    pictures = [_picture(folder, row) for row in read_jsonl(listing)]
    if not pictures:
        raise InputError(str(listing), "lists no image", expected="at least one", remedy="sample the bank again")
    for picture in pictures:
        if not picture.path.is_file():
            raise InputError(str(picture.path), "the image is listed but missing", remedy="sample the bank again: only it is drawn")
    return pictures


def _picture(folder: Path, row: dict[str, Any]) -> Picture:
    path = folder / row["file_name"]
    return Picture(path, row["prompt_id"], row["category"], row["prompt"], row.get("full_prompt", row["prompt"]), int(row.get("repeat", 0)))


def digest_pictures(hashes: dict[Path, str], paths: list[Path]) -> str:
    """One digest over a set of pictures by name and content, regardless of folder and order."""
    return digest_value(sorted([path.name, hashes[path]] for path in paths))


def pick_pairs(style: list[Picture], base: list[Picture], per_category: int) -> dict[str, list[tuple[Picture, Picture | None]]]:
    """Pictures to show, by category: evenly spaced through the bank, first repeats only, each with the base's picture or None."""
    theirs = {picture.prompt_id: picture for picture in reversed(base)}
    by_category: dict[str, list[Picture]] = {}
    seen: set[str] = set()
    for picture in style:
        if picture.prompt_id not in seen:
            seen.add(picture.prompt_id)
            by_category.setdefault(picture.category, []).append(picture)
    chosen = {}
    for category, pictures in sorted(by_category.items(), key=lambda item: reading_order(item[0])):
        count = min(per_category, len(pictures))
        spaced = [pictures[index * len(pictures) // count] for index in range(count)]
        chosen[category] = [(picture, theirs.get(picture.prompt_id)) for picture in spaced]
    return chosen


def in_turn(pairs: dict[str, list[tuple[Picture, Picture | None]]], count: int) -> list[tuple[Picture, Picture | None]]:
    """At most ``count`` pairs of :func:`pick_pairs`, taken from the categories in turn."""
    columns = pairs.values()
    return [column[index] for index in range(count) for column in columns if index < len(column)][:count]


def reading_order(category: str) -> tuple[int, str]:
    """Sort key of categories: the built-in four in their order, then the others by name."""
    return (CATEGORIES.index(category) if category in CATEGORIES else len(CATEGORIES), category)
