"""Auxiliary sets, which keep the base from forgetting while the style is learned."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.core.content import digest_file, digest_value
from components.core.errors import InputError
from components.core.images import inspect_image, load_rgb
from components.core.paths import atomic_folder, read_json, read_jsonl, write_json, write_jsonl
from components.styledata.manifest import ImageEntry, Manifest
from components.styledata.metadata import METADATA
from components.styledata.source import walk
from components.styledata.zeroshot import EncoderFactory, character_log_odds, encode_entries, form_log_odds

RELEVANCE_WEIGHT = 0.8
"""λ of maximal marginal relevance: 1 picks by relevance alone, 0 by diversity alone."""


@dataclass(frozen=True)
class _Picture:
    """One picture for an Aux set; ``place`` writes it as an RGB PNG to a given path."""

    origin: str
    key: str
    caption: str | None
    place: Callable[[Path], None]


def curate(style_set: Path, out: Path, *, count: int, form: str, encoder: EncoderFactory, roles: Sequence[str] | None = None) -> Path:
    """Choose ``count`` pictures from the style set's Aux pool and write them as an Aux set to ``out``.

    The pool is ranked by closeness to people and portraits and to the wanted ``form`` of art (both by CLIP, weighted
    equally); pictures are then picked by maximal marginal relevance (Carbonell and Goldstein, 1998), so that the set is
    close to what is wanted yet diverse. Copies, and pictures that are also in StyleRef or the reference, are left out.

    With ``roles`` the set is for one component of the style: pictures known to have another role are left out, and
    without ``character`` among the roles the ranking prefers pictures without people.
    """
    manifest = Manifest.load(style_set)
    pool = [entry for entry in _distinct(manifest) if not roles or entry.known_role[0] in (None, *roles)]
    if not pool:
        raise InputError(
            "aux.pool",
            f"holds no usable image{f' of a {_or(roles)}' if roles else ''} that is not also in StyleRef or the reference",
            expected="15 to 20 images or more, mostly of people",
            remedy="add some to aux_pool/, or set aux.source to generated",
        )
    model = encoder()
    features = encode_entries(pool, style_set, model)
    people, shape = character_log_odds(features, model), form_log_odds(features, form, model)
    wants_people = not roles or "character" in roles
    relevance = _standard(people if wants_people else -people) + _standard(shape)
    chosen = pick_diverse(relevance, features, count)
    columns = {"people": people, "form": shape, "relevance": relevance}
    # Rounded, since the file is hashed and the last digits vary by machine.
    scores = [{"origin": pool[i].path, **{name: round(float(values[i]), 3) for name, values in columns.items()}} for i in chosen]
    pictures = [_from_entry(pool[i], style_set) for i in chosen]
    return _write(out, "curated", pictures, prompt=None, requested=count, pool=len(pool), form=form, scores=scores)


def copy_target(style_set: Path, out: Path, roles: Sequence[str] | None = None) -> Path:
    """Use the StyleRef pictures themselves as the Aux set (an ablation of the papers); with ``roles``, only those with such a role."""
    entries = [entry for entry in Manifest.load(style_set).usable("style_ref") if not roles or entry.known_role[0] in roles]
    if roles and not entries:
        raise InputError(
            str(style_set), f"holds no StyleRef image that is known to show a {_or(roles)}", expected="roles in metadata.jsonl or folders"
        )
    return _write(out, "target", [_from_entry(entry, style_set) for entry in entries], prompt=None)


def no_aux(out: Path) -> Path:
    """Write an Aux set without pictures."""
    return _write(out, "none", [], prompt=None)


def pack_generated(pictures: Path, out: Path, prompt: str) -> Path:
    """Make an Aux set of the class pictures, in ``pictures`` or its ``images/``, that the frozen base drew from ``prompt``."""
    folder = Path(pictures) / "images" if (Path(pictures) / "images").is_dir() else Path(pictures)
    names = [name for name in walk(folder) if name.lower().endswith(".png")]
    if not names:
        raise InputError(str(pictures), "holds no class images", expected="PNG images drawn by the base")
    return _write(out, "generated", [_from_file(folder, name) for name in names], prompt=prompt)


def join(parts: Sequence[tuple[str, Path]], out: Path) -> Path:
    """Join several Aux sets, given as pairs (concept, folder), into one whose rows each name their ``concept``."""
    rows: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    with atomic_folder(out) as folder:
        (folder / "images").mkdir()
        for index, (concept, part) in enumerate(parts):
            for row in read_jsonl(part / METADATA):
                name = f"images/{index}-{Path(row['file_name']).name}"
                shutil.copyfile(part / row["file_name"], folder / name)
                rows.append({**row, "file_name": name, "concept": concept})
            records.append({**read_json(part / "aux.json"), "concept": concept})
        _describe(folder, rows, "+".join(sorted({record["source"] for record in records})), prompt=None, parts=records)
    return Path(out)


def pick_diverse(relevance: np.ndarray, features: np.ndarray, count: int, weight: float = RELEVANCE_WEIGHT) -> list[int]:
    """Indices of at most ``count`` of n items, picked by maximal marginal relevance, in the order in which they are picked.

    The next item maximises weight · r − (1 − weight) · max s, where r is its relevance, shape (n,), scaled to 0–1, and s its similarity to
    an item already picked: the cosine, scaled to 0–1, of the features, shape (n, d), less the pool's mean (CLIP's features lie in a narrow
    cone). The first item is the most relevant; ties go to the earlier item.
    """
    low, high = float(relevance.min()), float(relevance.max())
    scaled = (relevance - low) / (high - low) if high > low else np.zeros_like(relevance, dtype=np.float64)
    centred = features - features.mean(axis=0)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    nearest = np.zeros(len(scaled))
    left = np.ones(len(scaled), dtype=bool)
    picked: list[int] = []
    for _ in range(min(count, len(scaled))):
        gain = weight * scaled - (1.0 - weight) * nearest if picked else scaled
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        picked.append(best)
        left[best] = False
        nearest = np.maximum(nearest, (1.0 + centred @ centred[best]) / 2.0)
    return picked


def _distinct(manifest: Manifest) -> list[ImageEntry]:
    seen = {entry.sha256 for name in ("style_ref", "reference") for entry in manifest.split(name)}
    found = []
    for entry in manifest.usable("aux_pool"):
        if entry.sha256 not in seen:
            seen.add(entry.sha256)
            found.append(entry)
    return found


def _or(roles: Sequence[str]) -> str:
    return " or ".join(roles)


def _standard(values: np.ndarray) -> np.ndarray:
    """Standard scores, clipped at ±2 so that one outlier does not drown out the other criterion; shape as given."""
    deviation = float(values.std())
    return np.clip((values - values.mean()) / deviation, -2.0, 2.0) if deviation > 1e-9 else np.zeros_like(values)


def _from_entry(entry: ImageEntry, style_set: Path) -> _Picture:
    return _Picture(entry.path, entry.sha256, entry.caption, lambda target: entry.load(style_set).save(target, "PNG"))


def _from_file(folder: Path, name: str) -> _Picture:
    file = folder / name

    def place(target: Path) -> None:
        facts = inspect_image(file)
        if (facts.format, facts.mode) == ("PNG", "RGB"):
            shutil.copyfile(file, target)
        else:
            load_rgb(file).save(target, "PNG")

    return _Picture(name, digest_file(file), None, place)


def _write(out: Path, source: str, pictures: Iterable[_Picture], *, prompt: str | None, **extra: Any) -> Path:
    rows: list[dict[str, Any]] = []
    with atomic_folder(out) as folder:
        (folder / "images").mkdir()
        for index, picture in enumerate(pictures):
            name = f"images/{index:04d}-{picture.key[:8]}.png"
            picture.place(folder / name)
            rows.append({"file_name": name, "text": picture.caption, "prompt": prompt, "source": source, "origin": picture.origin})
        _describe(folder, rows, source, prompt=prompt, **extra)
    return Path(out)


def _describe(folder: Path, rows: list[dict[str, Any]], source: str, **facts: Any) -> None:
    write_jsonl(folder / METADATA, rows)
    digest = digest_value([[row["file_name"], digest_file(folder / row["file_name"])] for row in rows])
    write_json(folder / "aux.json", {"source": source, "count": len(rows), "digest": digest, **facts})
