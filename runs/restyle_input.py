"""Input of ``styleforge restyle``: the pictures, their captions, and the pictures of the style itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from components.captioning.describe import Picture, describe
from components.captioning.sources import check_captioner
from components.core.config import AuxSection, CaptionsSection, StyleSection
from components.core.content import digest_file
from components.core.errors import InputError, Problems
from components.core.images import EXTENSIONS, load_rgb
from components.styledata.metadata import METADATA, read_metadata
from components.styledata.source import is_url


def find_pictures(given: Sequence[Path]) -> list[Path]:
    """Return the given files, with folders replaced by their pictures sorted by name; InputError lists all problems."""
    problems, found = Problems(), []
    for path in given:
        with problems.collect():
            found += _pictures_in(path) if path.is_dir() else [path]
    for path in found:
        with problems.collect():
            load_rgb(path)
    names: dict[str, Path] = {}
    for path in found:
        if (other := names.setdefault(path.stem.casefold(), path)) is not path:
            problem = f"has the same name as {other}, and both would be written to one file"
            problems.found.append(InputError(str(path), problem, expected="a different name for each", remedy="rename one"))
    if not found and not problems.found:
        problems.found.append(InputError("PICTURE", "there is none", expected="images, or folders of images"))
    problems.raise_all()
    return found


def _pictures_in(folder: Path) -> list[Path]:
    expected = "an image, or a folder of images"
    try:
        found = sorted(item for item in folder.iterdir() if item.suffix.lower() in EXTENSIONS and not item.name.startswith("."))
    except OSError as error:
        raise InputError(str(folder), f"cannot be read ({error.strerror})", expected=expected) from error
    if not found:
        raise InputError(str(folder), "holds no images", expected=expected)
    return found


def find_captions(pictures: Sequence[Path], caption: str | None, captioner: CaptionsSection) -> list[str]:
    """Return a caption for each picture: ``caption``, else from a ``metadata.jsonl``, else by the captioner; empty if there is none."""
    if caption is not None:
        return [" ".join(caption.split())] * len(pictures)
    problems = Problems()
    known: dict[Path, str] = {}
    # In the picture's folder or its parent, as in the source of a style.
    for folder in {place for path in pictures for place in path.absolute().parents[:2]}:
        if (folder / METADATA).is_file():
            known |= {folder / name: row.caption for name, row in read_metadata(folder, problems).items() if row.caption}
    problems.raise_all()
    captions = {path: known.get(path.absolute()) for path in pictures}
    missing = [path for path, found in captions.items() if not found]
    if captioner.model and missing:
        check_captioner(captioner.model, captioner.revision)
        waiting = [Picture(str(path), digest_file(path), partial(load_rgb, path)) for path in missing]
        for batch in describe(waiting, captioner):
            captions |= {Path(path): found for path, found in batch.items()}
    return [captions[path] or "" for path in pictures]


def find_style_ref(model: str, style_set: Path | None, into: Path, *, needed: bool) -> list[Path]:
    """Return the StyleRef files: from the given folder, else from the source of the run that registered the version.

    If there is no known source, return no files, or raise InputError if they are ``needed``.
    """
    from components.styledata.manifest import scan_style

    source = str(style_set) if style_set else _source_of(model)
    if source is None:
        if needed:
            raise InputError(
                model, "does not say where the images of its style are, which the baselines need", expected="a registered model whose "
                "style.source is here", remedy="name their folder with --style-set, or omit the baselines with --no-baselines",
            )  # fmt: skip
        return []
    manifest = scan_style(StyleSection(name="style", source=source), AuxSection(source="none"), into)
    found = [entry.file(into) for entry in manifest.usable("style_ref")]
    if not found:
        raise InputError(source, "none of its images can be used", expected="a folder with images of the style")
    return found


def _source_of(model: str) -> str | None:
    """Return ``style.source`` of the run that registered a model; None for a model folder, or if the source no longer exists."""
    from components.registry.tracking import open_tracking, service_errors
    from components.registry.versions import find_version

    if Path(model).expanduser().is_dir():
        return None
    tracking = open_tracking()
    with service_errors(tracking.uri):
        run = find_version(tracking, model).run_id
        source = tracking.client.get_run(run).data.params.get("style.source") if run else None
    return source if source and (is_url(source) or Path(source).expanduser().is_dir()) else None
