"""``styleforge round``: turns drawn images that a person or a machine picked into a style set for another training (StyleDrop's rounds)."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config import AuxSection, StyleSection
from components.core.errors import InputError, Problems
from components.core.paths import atomic_folder, link_or_copy, state, write_jsonl
from components.styledata.manifest import ImageEntry, scan_style
from components.styledata.metadata import METADATA

if TYPE_CHECKING:
    from components.evaluation.pictures import Picture

PICKS = "picks"
"""Subfolder of ``style_ref`` for the picked images."""


@dataclass(frozen=True)
class RoundOptions:
    """Options of a round.

    ``drawn`` are folders that ``styleforge sample`` wrote, ``style_set`` the set of the previous round, ``out`` the new set. Either
    ``picks`` is a file with one image name a line, chosen by a person, or ``count`` images are picked by the ``extractor``. With
    ``alone``, StyleRef consists of the picked images only.
    """

    drawn: Sequence[Path]
    style_set: Path
    out: Path
    picks: Path | None = None
    count: int | None = None
    extractor: str = "look"
    alone: bool = False


def next_round(options: RoundOptions) -> dict[str, Any]:
    """Write the style set of the next round; return its ``folder``, the ``picked`` files and the number of images in ``style_ref``.

    Raises:
        InputError: ``out`` already exists; there are no picks, or some are not images of this round (all are listed); there is no
            style set, or it contains unusable images.
    """
    from components.evaluation.pictures import read_pictures

    if (options.picks is None) == (options.count is None):
        raise InputError("styleforge round", "needs picks", expected="either --picks FILE (a person's) or --count N (automatic)")
    if options.out.exists():
        raise InputError(str(options.out), "already exists", expected="a new folder")
    drawn = [picture for folder in options.drawn for picture in read_pictures(folder)]
    with tempfile.TemporaryDirectory(dir=state("work")) as scratch:
        pool = AuxSection(source="curated" if (options.style_set / "aux_pool").is_dir() else "none")
        style = StyleSection(name="style", source=str(options.style_set))
        manifest = scan_style(style, pool, Path(scratch), rights=True, concepts=True)
        problems = Problems()
        problems.found += manifest.unusable(str(options.style_set))
        problems.raise_all()
        entries = manifest.entries
        style_ref = [entry.file(Path(scratch)) for entry in entries if entry.split == "style_ref"]
        picked = _by_hand(options.picks, drawn) if options.picks else _by_machine(drawn, style_ref, options)
        kept = [entry for entry in entries if not options.alone or entry.split != "style_ref"]
        with atomic_folder(options.out) as folder:
            write_jsonl(folder / METADATA, [*_earlier(kept, Path(scratch), folder), *_picked(picked, folder)])
    count = len(picked) + sum(entry.split == "style_ref" for entry in kept)
    return {"folder": str(options.out), "picked": [str(picture.path) for picture in picked], "style_ref": count}


def _by_hand(file: Path, drawn: Sequence[Picture]) -> list[Picture]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(file), f"cannot be read ({error})", expected="a text file with one image name per line") from error
    names = [Path(line.strip()).name for line in lines if line.strip() and not line.startswith("#")]
    known, problems = {picture.path.name: picture for picture in drawn}, Problems()
    twice = {name for name, count in Counter(picture.path.name for picture in drawn).items() if count > 1}
    if not names:
        problems.found.append(InputError(str(file), "picks nothing", expected="one image name per line"))
    for name in dict.fromkeys(names):
        if name not in known:
            problems.found.append(InputError(f"{file}: {name}", "is not an image of this round", expected="the name of a drawn image"))
        elif name in twice:
            problems.found.append(InputError(f"{file}: {name}", "is in two of the folders", expected="one folder per call"))
    problems.raise_all()
    return [known[name] for name in dict.fromkeys(names)]


def _by_machine(drawn: Sequence[Picture], style_ref: Sequence[Path], options: RoundOptions) -> list[Picture]:
    from components.evaluation.extractors.factory import make_extractor
    from components.evaluation.picking import pick

    assert options.count is not None
    picked = pick(drawn, style_ref, make_extractor(options.extractor, "--extractor"), options.count)
    if not picked:
        raise InputError(
            "--count", "there are none to pick: all are copies of StyleRef, or StyleRef is a single image",
            expected="images that are in the style and new", remedy="draw more, or pick yourself with --picks",
        )  # fmt: skip
    return picked


def _earlier(entries: Sequence[ImageEntry], scanned: Path, folder: Path) -> Iterator[dict[str, Any]]:
    for entry in entries:
        name = entry.path if entry.path.startswith(f"{entry.split}/") else f"{entry.split}/{entry.path}"
        link_or_copy(entry.file(scanned), folder / name)
        row = {"file_name": name, "text": entry.caption, "role": entry.role, "concept": entry.concept, **(entry.rights or {})}
        yield {name: value for name, value in row.items() if value}


def _picked(pictures: Sequence[Picture], folder: Path) -> Iterator[dict[str, Any]]:
    """Store the picks; the caption of each is the prompt that it was drawn from."""
    for number, picture in enumerate(pictures):
        name = f"style_ref/{PICKS}/{number:03d}{picture.path.suffix}"
        link_or_copy(picture.path, folder / name)
        yield {"file_name": name, "text": picture.prompt}
