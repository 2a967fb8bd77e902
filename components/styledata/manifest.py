"""The manifest: the single source of truth about a style's pictures, and how it is made; everything after it is keyed by content."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from components.core.config import AuxSection, StyleSection
from components.core.content import digest_value
from components.core.errors import InputError, Problems
from components.core.images import EXTENSIONS, HARD_MAX_PIXELS, ImageFacts, inspect_image, load_rgb
from components.core.paths import atomic_folder, read_jsonl, state, storage_errors, write_jsonl
from components.styledata.metadata import METADATA, Annotation, read_metadata
from components.styledata.source import open_source, walk

MANIFEST = "manifest.jsonl"
IMAGES = "images"
SPLITS = ("style_ref", "aux_pool", "reference")
_RECORDED = ("rights", "concept")
"""Fields that are present only if a run asks for them, so that the digests of other style sets do not change."""
FOLDER_ROLES = {"character": "character", "characters": "character", "background": "background", "backgrounds": "background"}


@dataclass(frozen=True)
class ImageEntry:
    """One picture of a style set; facts as in :class:`components.core.images.ImageFacts`, caption and role from ``metadata.jsonl``.

    ``caption_by`` is ``person`` or the model that wrote the caption. ``path`` is POSIX and relative to ``images/``; ``problem`` is the
    reason why the picture cannot be used, or None. Only if a run asks for them, ``rights`` has license, author, consent and source, as
    far as they are known, and ``concept`` names what is shown.
    """

    path: str
    sha256: str
    phash: str | None
    width: int | None
    height: int | None
    mode: str | None
    format: str | None
    spread: float | None
    animated: bool
    caption: str | None
    caption_by: str | None
    role: str | None
    split: str
    problem: str | None
    rights: Mapping[str, str] | None = None
    concept: str | None = None

    def as_row(self) -> dict[str, Any]:
        """The entry as plain JSON; ``rights`` and ``concept`` are left out if they are None."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in _RECORDED}

    def file(self, style_set: Path) -> Path:
        """The picture's file in a style set's folder."""
        return Path(style_set) / IMAGES / self.path

    def load(self, style_set: Path) -> Image.Image:
        """The picture as 8-bit RGB; the scan has checked its size."""
        return load_rgb(self.file(style_set), HARD_MAX_PIXELS)

    @property
    def known_role(self) -> tuple[str | None, str | None]:
        """The role and where it is from: ``metadata``, else ``folder`` (``character/`` or ``background/`` above it); else None for both."""
        if self.role:
            return self.role, "metadata"
        for part in reversed(PurePosixPath(self.path).parts[:-1]):
            if part.lower() in FOLDER_ROLES:
                return FOLDER_ROLES[part.lower()], "folder"
        return None, None


@dataclass(frozen=True)
class Manifest:
    """All pictures of a style set, sorted by path, and the files that were ignored."""

    entries: tuple[ImageEntry, ...]
    ignored: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 over all entries."""
        return digest_value([entry.as_row() for entry in self.entries])

    def split(self, name: str) -> tuple[ImageEntry, ...]:
        """The entries of one split, usable or not."""
        return tuple(entry for entry in self.entries if entry.split == name)

    def usable(self, name: str) -> tuple[ImageEntry, ...]:
        """The entries of one split that decode."""
        return tuple(entry for entry in self.split(name) if entry.problem is None)

    def unusable(self, source: str) -> list[InputError]:
        """An error for each picture that cannot be used, for cases in which validation cannot report them."""
        return [InputError(f"{source}: {entry.path}", entry.problem) for entry in self.entries if entry.problem]

    def write(self, folder: Path) -> None:
        """Write ``manifest.jsonl`` (one row per picture) and ``ignored.jsonl`` (one row per ignored file) into ``folder``."""
        write_jsonl(Path(folder) / MANIFEST, [entry.as_row() for entry in self.entries])
        write_jsonl(Path(folder) / "ignored.jsonl", [{"path": path} for path in self.ignored])

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read a style set's manifest."""
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise InputError(str(folder), f"holds no {MANIFEST}", expected="a style set made by the scan step")
        ignored = read_jsonl(folder / "ignored.jsonl") if (folder / "ignored.jsonl").is_file() else []
        names = [field.name for field in fields(ImageEntry)]
        unrecorded: dict[str, Any] = dict.fromkeys(_RECORDED)
        rows = (unrecorded | row for row in read_jsonl(folder / MANIFEST))
        entries = (ImageEntry(**{name: row[name] for name in names}) for row in rows)
        return cls.of(entries, (row["path"] for row in ignored))

    @classmethod
    def of(cls, entries: Iterable[ImageEntry], ignored: Iterable[str] = ()) -> Manifest:
        """Make a manifest in canonical order."""
        return cls(tuple(sorted(entries, key=lambda entry: entry.path)), tuple(sorted(ignored)))


@dataclass(frozen=True)
class _Found:
    file: Path
    path: str
    split: str
    annotation: Annotation


@dataclass(frozen=True)
class _Folder:
    """An opened source: where it is, the user's name for it, its files and what its metadata says."""

    root: Path
    name: str
    pictures: tuple[str, ...]
    ignored: tuple[str, ...]
    annotations: dict[str, Annotation]

    def take(self, split: str, *, below: str = "", to: str = "", without: tuple[str, ...] = ()) -> list[_Found]:
        """Pictures under the sub-folder ``below`` and not under any of ``without``; their paths in the style set get the prefix ``to``."""
        return [
            _Found(self.root / path, to + path, split, self.annotations.get(path, Annotation()))
            for path in self.pictures
            if path.startswith(below) and not path.startswith(without)
        ]


def scan_style(style: StyleSection, aux: AuxSection, out: Path, *, rights: bool = False, concepts: bool = False) -> Manifest:
    """Copy a style's pictures, bytes unchanged, into the style set ``out`` and describe each in its manifest.

    StyleRef is ``style_ref/`` in the source or, if there is none, the whole source except ``aux_pool/`` and ``reference/``. The Aux pool
    is read only if Aux pictures are curated from it. Pictures that do not decode become entries with a ``problem``, for validation to
    judge. With ``rights`` and ``concepts`` the manifest records those that the metadata names. The style set is written whole or not at
    all; everything that is wrong is reported in one InputError.
    """
    problems = Problems()
    with tempfile.TemporaryDirectory(dir=state("scratch")) as scratch, atomic_folder(out) as folder:
        found, ignored = _gather(style, aux, Path(scratch), problems)
        entries = _copy_all(found, folder, style.max_pixels, problems)
        entries = [
            replace(entry, rights=entry.rights if rights else None, concept=entry.concept if concepts else None) for entry in entries
        ]
        manifest = Manifest.of(entries, ignored)
        if problems.found:
            # Without a style set there is no validation to report these.
            problems.found += manifest.unusable(style.source)
        problems.raise_all()
        manifest.write(folder)
    return manifest


def _gather(style: StyleSection, aux: AuxSection, scratch: Path, problems: Problems) -> tuple[list[_Found], set[str]]:
    """The pictures that make up the style set, and the paths of all ignored files."""
    opened: list[_Folder] = []
    found: list[_Found] = []
    ignored: set[str] = set()

    def open_folder(location: str, name: str) -> _Folder | None:
        with problems.collect():
            opened.append(_open(location, scratch / name, problems))
            return opened[-1]
        return None

    if source := open_folder(style.source, "style"):
        with problems.collect():
            found, ignored = _style_ref(source)
    if style.reference is None:
        found += source.take("reference", below="reference/") if source else []
    elif reference := open_folder(style.reference, "reference"):
        found += reference.take("reference", to="reference/")
    if aux.source == "curated" and aux.pool is not None:
        if pool := open_folder(aux.pool, "pool"):
            found += pool.take("aux_pool", to="aux_pool/")
    elif aux.source == "curated" and source:
        pooled = source.take("aux_pool", below="aux_pool/")
        found += pooled
        with problems.collect():
            if not pooled:
                raise InputError(
                    "aux.pool",
                    f"aux.source is `curated`, but {style.source} holds no images in aux_pool/",
                    expected="a pool of images to choose from",
                    remedy="set aux.pool to a folder, or aux.source to generated, target or none",
                )
    return found, ignored.union(*(folder.ignored for folder in opened))


def _style_ref(source: _Folder) -> tuple[list[_Found], set[str]]:
    """The StyleRef pictures and, if the source has a ``style_ref/``, the paths of pictures outside the three splits' folders."""
    strays: set[str] = set()
    if (source.root / "style_ref").is_dir():
        where, found = "its style_ref/", source.take("style_ref", below="style_ref/")
        strays = {path for path in source.pictures if not path.startswith(tuple(f"{split}/" for split in SPLITS))}
    else:
        where, found = "the folder, outside aux_pool/ and reference/,", source.take("style_ref", without=("aux_pool/", "reference/"))
    if not found:
        kinds = ", ".join(sorted(extension.lstrip(".") for extension in EXTENSIONS))
        raise InputError(
            source.name, f"{where} holds no images", expected=f"15 to 20 images of the style ({kinds})", remedy="put them there"
        )
    return found, strays


def _open(location: str, into: Path, problems: Problems) -> _Folder:
    root = open_source(location, into)
    files = list(walk(root))
    pictures = tuple(path for path in files if PurePosixPath(path).suffix.lower() in EXTENSIONS)
    if not pictures:
        what = f"none of its {len(files)} files is an image" if files else "the folder is empty"
        raise InputError(
            location, what, expected="a folder of PNG, JPEG, WebP, BMP, TIFF or GIF images", remedy="put images there, or fix the path"
        )
    ignored = tuple(path for path in files if path not in set(pictures) and PurePosixPath(path).name != METADATA)
    return _Folder(root, location, pictures, ignored, read_metadata(root, problems))


def _copy_all(found: list[_Found], folder: Path, max_pixels: int, problems: Problems) -> list[ImageEntry]:
    def copy(item: _Found) -> ImageEntry | None:
        with problems.collect():
            return _copy(item, folder / IMAGES / item.path, max_pixels)
        return None

    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Whatever Pillow warns about (its own pixel limit, odd tags), the entry's ``problem`` is what counts.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        return [entry for entry in pool.map(copy, found) if entry]


def _copy(item: _Found, target: Path, max_pixels: int) -> ImageEntry:
    try:
        data = item.file.read_bytes()
    except OSError as error:
        raise InputError(str(item.file), f"cannot be read ({error.strerror})", expected="a readable image") from error
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    facts = inspect_image(data, max_pixels) if data else ImageFacts(problem="the file is empty")
    return ImageEntry(
        path=item.path,
        sha256=hashlib.sha256(data).hexdigest(),
        caption=item.annotation.caption,
        caption_by=item.annotation.caption_by,
        role=item.annotation.role,
        split=item.split,
        rights=item.annotation.rights,
        concept=item.annotation.concept,
        **asdict(facts),
    )
