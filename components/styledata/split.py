"""Which StyleRef pictures show characters and which backgrounds, and what the style is measured against."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from components.core.errors import InputError
from components.core.paths import atomic_folder, write_json
from components.styledata.manifest import ImageEntry, Manifest
from components.styledata.zeroshot import EncoderFactory, character_log_odds, encode_entries

LOW_CONFIDENCE = 0.75


@dataclass(frozen=True)
class RoleOfPicture:
    """A StyleRef picture's role, its confidence (0.5 to 1), and where the role is from: ``metadata``, ``folder`` or ``zero-shot``."""

    path: str
    role: str
    confidence: float
    source: str


def split_style_set(style_set: Path, out: Path, encoder: EncoderFactory) -> Path:
    """Give every StyleRef picture a role and write ``split.json`` into the folder ``out``; returns ``out``.

    A picture's role comes from its metadata, else from its sub-folder, else from zero-shot classification (``encoder`` is called only
    then); ``method`` is the weakest of these that was needed. ``reference`` lists the held-out pictures; if there are none, it lists the
    StyleRef pictures themselves, and ``reference_is_style_ref`` is true.
    """
    manifest = Manifest.load(style_set)
    entries = manifest.usable("style_ref")
    if not entries:
        raise InputError(str(style_set), "holds no usable StyleRef image", expected="a style set that passed validation")
    known = [_known(entry) for entry in entries]
    unknown = [entry for entry, role in zip(entries, known, strict=True) if role is None]
    read = iter(_read(unknown, style_set, encoder) if unknown else ())
    roles = [role or next(read) for role in known]
    reference = [entry.path for entry in manifest.usable("reference")]
    with atomic_folder(out) as folder:
        write_json(
            folder / "split.json",
            {
                "method": max((role.source for role in roles), key=("metadata", "folder", "zero-shot").index),
                "style_ref": [asdict(role) for role in roles],
                "reference": reference or [entry.path for entry in entries],
                "reference_is_style_ref": not reference,
                "low_confidence": [role.path for role in roles if role.confidence < LOW_CONFIDENCE],
            },
        )
    return Path(out)


def _known(entry: ImageEntry) -> RoleOfPicture | None:
    role, source = entry.known_role
    return RoleOfPicture(entry.path, role, 1.0, source) if role and source else None


def _read(entries: list[ImageEntry], style_set: Path, factory: EncoderFactory) -> list[RoleOfPicture]:
    encoder = factory()
    odds = character_log_odds(encode_entries(entries, style_set, encoder), encoder)
    # Logistic of |odds|: the probability of the likelier role. Rounded, since the file is hashed and the last digits vary by machine.
    confidence = 1.0 / (1.0 + np.exp(-np.abs(odds)))
    return [
        RoleOfPicture(entry.path, "character" if odd > 0 else "background", round(float(sure), 4), "zero-shot")
        for entry, odd, sure in zip(entries, odds, confidence, strict=True)
    ]
