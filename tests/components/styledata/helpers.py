import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.core.config import AuxSection, StyleSection
from components.styledata.manifest import Manifest, scan_style


def picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    """A smooth random picture: every seed gives another composition."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header_bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG of a few dozen bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def style_folder(root: Path, *, style: int = 16, pool: int = 0, reference: int = 0, roles: bool = True) -> Path:
    """A source in the layout of ``styleforge pocket render``, with metadata."""
    rows = []
    for split, count, start in (("style_ref", style, 0), ("aux_pool", pool, 1000), ("reference", reference, 2000)):
        for index in range(count):
            name = f"{split}/{index:02d}.png"
            (root / split).mkdir(parents=True, exist_ok=True)
            picture(start + index).save(root / name)
            role = {"role": ("character", "background")[index % 2]} if roles else {}
            rows.append({"file_name": name, "text": f"scene {index}", **role})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def scan(source: Path | str, out: Path, *, aux: str = "none", rights: bool = False, concepts: bool = False, **style: Any) -> Manifest:
    return scan_style(StyleSection(name="test", source=str(source), **style), AuxSection(source=aux), out, rights=rights, concepts=concepts)


def grant(source: Path, rights: dict[str, dict[str, Any]]) -> None:
    """Add columns to rows of a source's metadata, by path."""
    rows = [json.loads(line) for line in (source / "metadata.jsonl").read_text().splitlines()]
    (source / "metadata.jsonl").write_text("".join(json.dumps({**row, **rights.get(row["file_name"], {})}) + "\n" for row in rows))


class ColourEncoder:
    """CLIP encoder for tests: red means a person, green scenery, blue a digital painting; texts are read for these words."""

    def __init__(self) -> None:
        self.pictures = 0

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        self.pictures += len(images)
        colours = np.array([np.asarray(image, dtype=float).reshape(-1, 3).mean(axis=0) / 255.0 for image in images])
        blue = colours[:, 2:]
        return _unit(np.concatenate([colours[:, :2], blue, 1.0 - blue, np.full((len(images), 1), 0.5)], axis=1))

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return _unit(np.array([self._read(text) for text in texts]))

    @staticmethod
    def _read(text: str) -> list[float]:
        person = any(word in text for word in ("person", "man", "boy", "girl"))
        form = any(word in text for word in ("digital painting", "sketch", "pastel", "poster", "illustration", "watercolor"))
        painting = "digital painting" in text
        return [float(person), float(not person and not form), float(painting), float(form and not painting), 0.5]


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)
