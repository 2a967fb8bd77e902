"""``styleforge caption``: writes captions into a style source, for people to read and correct."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from components.captioning.describe import Picture, describe
from components.captioning.sources import captioner_id, check_captioner
from components.core.config import CaptionsSection, RunConfig
from components.core.errors import ConfigError, InputError
from components.core.paths import state
from components.styledata.captions import waiting, write_into_source
from components.styledata.manifest import ImageEntry, Manifest, scan_style
from components.styledata.source import is_url
from orchestration.environment import prepare_environment
from runs.plan import captioned_splits, effective_aux

_POOL = "aux_pool/"


@dataclass(frozen=True)
class _Set:
    """A scanned style set with the folders that its pictures come from: the source, and the pool if it is a separate folder."""

    folder: Path
    manifest: Manifest
    splits: tuple[str, ...]
    source: Path
    pool: Path | None

    def place(self, entry: ImageEntry) -> tuple[Path, str]:
        """Return the folder that a picture comes from and its path in that folder."""
        if self.pool and entry.split == "aux_pool":
            return self.pool, entry.path.removeprefix(_POOL)
        return self.source, entry.path


def caption_source(config: RunConfig, *, overwrite: bool = False, dry_run: bool = False) -> dict[str, Any]:
    """Write captions into ``metadata.jsonl`` of the style's source, batch by batch; those written by people are never replaced.

    StyleRef is captioned, and the Aux pool if its captions are used in a prompt. With ``overwrite``, those written by a model are replaced.
    With ``dry_run``, nothing is loaded or written, and ``pictures`` says what would be done.

    Returns:
        ``status``, ``model`` (None in a dry run without one), ``dry_run``, ``counts`` by outcome, the ``files`` written, and ``pictures``,
        each with its ``path``, ``caption``, the caption's author (``by``) and its outcome (``done``): ``written``, ``kept``, ``empty``
        (the model produced nothing usable), ``unusable``, or, in a dry run, ``to write``.

    Raises:
        InputError: no captioner is set, it cannot be used, or the source is not a local folder of pictures.
        ServiceUnreachable: the hub does not answer.
    """
    prepare_environment()
    by = _captioner(config.captions, dry_run)
    with tempfile.TemporaryDirectory(dir=state("work")) as scratch:
        found = _scan(config, Path(scratch) / "style_set")
        entries = waiting(found.manifest, found.splits, overwrite=overwrite)
        rows = {entry.path: _row(entry) for entry in found.manifest.entries if entry.split in found.splits}
        files: set[Path] = set()
        for entry in entries:
            rows[entry.path]["done"] = "to write"
        if not dry_run:
            for captions in _describe(found, entries, config.captions):
                files |= _write(found, entries, captions, by or "", overwrite)
                for path, caption in captions.items():
                    rows[path] |= {"caption": caption, "by": by, "done": "written"} if caption else {"done": "empty"}
    counts = Counter(row["done"] for row in rows.values())
    return {
        "status": "completed", "model": by, "dry_run": dry_run, "counts": dict(sorted(counts.items())),
        "files": sorted(str(file) for file in files), "pictures": list(rows.values()),
    }  # fmt: skip


def _captioner(captions: CaptionsSection, dry_run: bool) -> str | None:
    """Return the name to record as the author of the captions."""
    if not captions.model:
        if dry_run:
            return None
        raise ConfigError(
            "captions.model", "is not set", expected="a folder or hub id of a vision-language model",
            remedy="set it in the configuration, or with --set captions.model=...; see docs/how-to/captions.md",
        )  # fmt: skip
    check_captioner(captions.model, captions.revision)
    return captioner_id(captions.model, captions.revision)


def _scan(config: RunConfig, folder: Path) -> _Set:
    splits = tuple(dict.fromkeys(("style_ref", *captioned_splits(config))))
    aux = effective_aux(config)
    places = {"style.source": config.style.source, **({"aux.pool": aux.pool} if "aux_pool" in splits and aux.pool else {})}
    for field, place in places.items():
        if is_url(place):
            raise InputError(
                f"{field}={place}", "is a URL, where captions cannot be written", expected="a local folder",
                remedy="copy it, or use `styleforge run`, which captions its own copy",
            )  # fmt: skip
    # Held-out pictures need no captions, and a pool that is not used need not exist.
    style = config.style.model_copy(update={"reference": None})
    manifest = scan_style(style, aux if "aux_pool" in splits else aux.model_copy(update={"source": "none"}), folder)
    pool = Path(places["aux.pool"]).expanduser() if "aux.pool" in places else None
    return _Set(folder, manifest, splits, Path(config.style.source).expanduser(), pool)


def _row(entry: ImageEntry) -> dict[str, Any]:
    done = "unusable" if entry.problem else "kept"
    return {"path": entry.path, "caption": entry.caption, "by": entry.caption_by, "done": done, "problem": entry.problem}


def _describe(found: _Set, entries: list[ImageEntry], settings: CaptionsSection) -> Iterator[dict[str, str]]:
    pictures = [Picture(entry.path, entry.sha256, partial(entry.load, found.folder)) for entry in entries]
    return describe(pictures, settings)


def _write(found: _Set, entries: list[ImageEntry], captions: Mapping[str, str], by: str, overwrite: bool) -> set[Path]:
    """Write one batch of captions; writing batch by batch keeps finished work if the command is interrupted."""
    places: dict[Path, dict[str, str]] = {}
    for entry in entries:
        if entry.path in captions:
            root, path = found.place(entry)
            places.setdefault(root, {})[path] = captions[entry.path]
    return {file for root, texts in places.items() for file in write_into_source(root, texts, by, overwrite=overwrite)}
