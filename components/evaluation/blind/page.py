"""The blind page: one HTML file that holds the pairs, and beside it a key file that says which image is which."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from components.core.content import derive_seed, digest_value
from components.core.errors import InputError
from components.core.images import load_rgb
from components.core.pages import thumbnail, write_page
from components.core.paths import atomic_folder, write_json
from components.evaluation.blind.pairs import Candidate, Pair

Kind = Literal["artist", "style", "like"]
"""What is asked: which is the artist's, which is more in the style, or which is liked better."""
QUESTIONS: dict[str, str] = {
    "artist": "Which one is the artist’s?", "style": "Which one is more in this style?", "like": "Which one do you like better?",
}  # fmt: skip
ROLES: dict[str, tuple[str, str]] = {"artist": ("artist", "model"), "style": ("a", "b"), "like": ("a", "b")}
"""What the key calls the two images of a pair, by the kind of question."""
PAGE, KEY = "blind.html", "key.json"
LARGEST, STYLE_SIDE, STYLE_SHOWN = 512, 160, 6
_TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class BlindPage:
    """Contents of a blind page: the question, the pairs, StyleRef images to show beside them, and the images' sources for the key."""

    kind: Kind
    pairs: Sequence[Pair]
    style_ref: Sequence[Path]
    sources: Mapping[str, Mapping[str, Any]]
    seed: int = 0


def write_blind(out: Path, page: BlindPage) -> dict[str, Any]:
    """Write ``blind.html`` and ``key.json`` into the new or empty folder ``out``; returns the key.

    Both images of a pair get the same size and encoding and lose their metadata. Sides are random, with each role on either side equally
    often. The page holds no names; do not show the key to the people who answer. The same pairs and seed give the same bytes.
    """
    if (out.exists() or out.is_symlink()) and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"--out {out}", "already exists, and people may have answered it", expected="a new or empty folder",
            remedy="choose another place, or remove it first",
        )  # fmt: skip
    rng = np.random.default_rng(derive_seed(page.seed, "blind", "sides"))
    ordered = [page.pairs[place] for place in rng.permutation(len(page.pairs))]
    swapped = rng.permutation([place % 2 == 1 for place in range(len(ordered))])
    shown, rows = [], []
    for number, (pair, swap) in enumerate(zip(ordered, swapped, strict=True)):
        images = _alike(load_rgb(pair.first.path), load_rgb(pair.second.path))
        sides = list(zip(ROLES[page.kind], (pair.first, pair.second), images, strict=True))
        sides = sides[::-1] if swap else sides
        # Two models draw the same prompt, but the artist's image goes with another text, which would give it away.
        shown.append({"pair": number, "images": [image for _, _, image in sides], "text": "" if page.kind == "artist" else pair.first.text})
        rows.append({"pair": number, "left": sides[0][0], "right": sides[1][0], "matched_by": pair.matched_by})
        rows[-1] |= {role: _described(candidate) for role, candidate, _ in sides}
    style = [_encode(_fitted(load_rgb(path), STYLE_SIDE)) for path in _spaced(page.style_ref, STYLE_SHOWN)]
    content = {"kind": page.kind, "question": QUESTIONS[page.kind], "pairs": shown, "style": style}
    name = digest_value(content)[:16]
    key = {"schema": 1, "page": name, "kind": page.kind, "seed": page.seed, "sources": page.sources, "pairs": rows}
    with atomic_folder(out) as folder:
        _write_html(folder / PAGE, {"page": name, **content})
        write_json(folder / KEY, key)
    return key


def _write_html(path: Path, content: Mapping[str, Any]) -> None:
    script = (_TEMPLATES / "blind.js").read_text(encoding="utf-8")
    sealed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Inside a script element only "<" could end the element.
    data = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    page = {"content": content, "data": data, "script": script, "script_hash": sealed}
    write_page(path, _TEMPLATES / "blind.html.j2", page)


def _described(candidate: Candidate) -> dict[str, Any]:
    """What the key says about an image; only the file's name and not its path, since keys are passed on."""
    facts = {
        "file": candidate.path.name, "text": candidate.text, "role": candidate.role, "concept": candidate.concept,
        "prompt_id": candidate.prompt_id,
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value}


def _alike(first: Image.Image, second: Image.Image) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both images with the second's proportions and one size, the smaller of the two, so that resolution and format give nothing away."""
    side = min(LARGEST, max(second.size), max(first.size))
    scale = side / max(second.size)
    width, height = (max(1, round(length * scale)) for length in second.size)
    return _encode(_filled(first, width, height)), _encode(_filled(second, width, height))


def _filled(image: Image.Image, width: int, height: int) -> Image.Image:
    """Crop an image to the given proportions around its centre, and resize it."""
    if image.size == (width, height):
        return image
    scale = min(image.width / width, image.height / height)
    across, down = width * scale, height * scale
    left, top = (image.width - across) / 2, (image.height - down) / 2
    return image.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, left + across, top + down))


def _fitted(image: Image.Image, side: int) -> Image.Image:
    image = image.copy()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _encode(image: Image.Image) -> dict[str, Any]:
    """As :func:`components.core.pages.thumbnail`, from the pixels alone: colour profiles and text chunks are dropped."""
    return thumbnail(Image.fromarray(np.asarray(image)), LARGEST)


def _spaced(paths: Sequence[Path], count: int) -> list[Path]:
    count = min(count, len(paths))
    return [paths[place * len(paths) // count] for place in range(count)]
