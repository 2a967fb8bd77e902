"""Heat maps as files: overlays on their pictures, raw numbers, and a listing that says which is which."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from components.core.config import SamplingSection
from components.core.paths import atomic_folder, write_json
from components.diffusion.attention.capture import Explanation, HeatMap, explain_pictures
from components.diffusion.models.bundle import Bundle
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import describe, row_of, write_png

SCHEMA = 1
LISTING = "attention.json"
SMALLEST = 256
"""Least number of pixels along an overlay's longer side: a map on a picture of 64 pixels would be a few coloured dots."""
EVEN = 0.25
"""The scale reaches at least this share of a map's mean above and below it, so that an even map looks even."""
COLOURS = "inferno"
_LUMA = (0.299, 0.587, 0.114)


def explain(
    bundle: Bundle, requests: Sequence[tuple[PromptRequest, Sequence[str]]], settings: SamplingSection, seed: int, out: Path
) -> Path:
    """Draw pictures with heat maps of some of their prompts' words, and write all of them or nothing into ``out``, which is returned.

    ``images/`` gets the pictures, ``heat/`` the overlays, ``maps.safetensors`` the values (float32 of shape (h, w) for each
    ``<prompt id>/<word>``), ``attention.json`` one row per picture with its words, in the order of ``requests``. Raises InputError,
    before anything is drawn or written, if a word is not in its prompt.
    """
    explained = explain_pictures(bundle, requests, settings, seed)
    rows: list[dict[str, Any]] = []
    values: dict[str, np.ndarray] = {}
    with atomic_folder(Path(out)) as folder:
        for name in ("images", "heat"):
            (folder / name).mkdir()
        for item in explained:
            picture = f"images/{item.job.file_name}"
            write_png(folder / picture, np.asarray(item.picture), describe(item.job, bundle, settings))
            words = [_write_overlay(item, heat, number, folder) for number, heat in enumerate(item.maps, start=1)]
            rows.append({**{key: value for key, value in row_of(item.job).items() if key != "repeat"}, "words": words})
            values |= {f"{item.job.request.id}/{heat.token}": np.ascontiguousarray(heat.values) for heat in item.maps}
        save_file(values, str(folder / "maps.safetensors"))
        order = [request.id for request, _ in requests]
        rows.sort(key=lambda row: order.index(row["prompt_id"]))
        drawing = {"negative_prompt": settings.negative_prompt, **vars(bundle.family.drawing(settings))}
        if settings.guidance_formula:
            drawing["guidance_formula"] = settings.guidance_formula.model_dump(mode="json")
        write_json(folder / LISTING, {"schema": SCHEMA, "model": bundle.digest, "seed": seed, **drawing, "pictures": rows})
    return Path(out)


def write_nothing(out: Path) -> Path:
    """Write the listing of :func:`explain` without any pictures into ``out``, which is returned."""
    write_json(Path(out) / LISTING, {"schema": SCHEMA, "pictures": []})
    return Path(out)


def _write_overlay(item: Explanation, heat: HeatMap, number: int, folder: Path) -> dict[str, Any]:
    slug = re.sub(r"[^a-z0-9]+", "-", heat.token.lower()).strip("-")[:40] or "word"
    name = f"heat/{Path(item.job.file_name).stem}-{number:02d}-{slug}.png"
    overlay(item.picture, heat.values).save(folder / name)
    return {
        "word": heat.token, "file_name": name, "positions": list(heat.positions), "share": round(heat.share, 6),
        "lowest": round(float(heat.values.min()), 6), "highest": round(float(heat.values.max()), 6), "breadth": round(heat.breadth, 4),
    }  # fmt: skip


def overlay(picture: Image.Image, values: np.ndarray) -> Image.Image:
    """Lay a non-negative heat map, shape (h, w), over its picture, in RGB: gray where the word matters least, glowing where most.

    The scale is the map's own, from its lowest to its highest value, but never narrower than its mean ± 25 %. A small picture is
    enlarged by a whole factor to at least 256 pixels on its longer side.
    """
    import matplotlib

    factor = math.ceil(SMALLEST / max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.NEAREST), dtype=np.float64)
    gray = (pixels @ np.array(_LUMA))[..., None]
    heat = np.asarray(Image.fromarray(scaled(values)).resize(size, Image.Resampling.BICUBIC)).clip(0.0, 1.0)
    colour = matplotlib.colormaps[COLOURS](heat)[..., :3] * 255.0
    weight = 0.1 + 0.65 * heat[..., None]
    return Image.fromarray(np.rint(0.8 * gray * (1.0 - weight) + colour * weight).clip(0, 255).astype(np.uint8))


def scaled(values: np.ndarray) -> np.ndarray:
    """A map rescaled to 0–1, float32, as :func:`overlay` describes."""
    mean = float(values.mean())
    if mean <= 0.0:
        return np.zeros(values.shape, np.float32)
    relative = values / mean
    low, high = min(float(relative.min()), 1.0 - EVEN), max(float(relative.max()), 1.0 + EVEN)
    return ((relative - low) / (high - low)).astype(np.float32)
