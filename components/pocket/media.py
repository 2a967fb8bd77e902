"""Media and styles of the pocket world: a *look* turns a flat scene into a photo, a sketch, a mosaic or an anime frame.

A look is data: settings for a fixed chain of operations. A named medium is a distribution of looks (for each setting, a
number or a range to draw from); "mixed media" interpolates between two of them. The six target styles are looks between
and beyond the media; the base models never see them, but the evaluator does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.spatial import cKDTree

from components.pocket.pen import CANVAS, SIDE

Rgb = tuple[float, float, float]
Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Look:
    """Settings of the chain, in the order in which they act; the defaults do nothing."""

    cells: float = 0  #: Voronoi cells per picture; 0 = none
    shift: float = 0  #: displacement of a cell's content, in canvas pixels
    flatten: float = 0  #: 0 keeps a cell's content, 1 fills it with its mean colour
    facet: float = 0  #: spread of brightness between cells
    simplify: float = 0  #: side of the mode filter, in canvas pixels; 0 = none
    blur: float = 0  #: radius, in canvas pixels
    blocks: float = 0  #: blocks per side; 0 = none
    levels: float = 0  #: colours in the palette; 0 = all
    saturation: float = 1
    value: float = 1
    gamma: float = 1
    fade: float = 0  #: 0 = full colour, 1 = white paper
    duotone: float = 0  #: share of the two-colour print below
    dark: Rgb = (0, 0, 0)  #: duotone's shadows
    light: Rgb = (255, 255, 255)  #: duotone's lights
    tint: Rgb = (1, 1, 1)
    outline: float = 0  #: strength of drawn contours
    threshold: float = 26  #: contrast above which an edge is drawn
    ink: Rgb = (30, 28, 34)  #: colour of the contours
    own_ink: float = 0  #: share of the surface's own (darkened) colour in the contours
    seam: float = 0  #: darkness of the seams between cells or blocks
    slope: float = 0  #: light from the left (> 0) or right (< 0)
    vignette: float = 0
    grain: float = 0  #: relative spread of the texture
    grain_size: float = 1  #: side of a grain, in canvas pixels


Spec = dict[str, Any]

MEDIA: dict[str, Spec] = {
    "photo": {"blur": (0.5, 0.9), "grain": (0.02, 0.035), "vignette": (0.05, 0.2)},
    "digital painting": {"simplify": 5, "saturation": (1.15, 1.35), "grain": 0.03, "grain_size": 2},
    "illustration": {"saturation": (1.25, 1.45), "value": (1.0, 1.1)},
    "sketch": {"saturation": 0.0, "fade": (0.6, 0.75), "outline": (0.7, 0.95), "threshold": 18},
    "watercolor": {"saturation": (0.6, 0.8), "fade": (0.2, 0.35), "blur": (1.2, 1.8), "grain": (0.04, 0.07), "grain_size": 8},
    "oil painting": {"simplify": 7, "saturation": 1.15, "value": (0.88, 0.98), "grain": (0.03, 0.05), "grain_size": 4},
    "ink drawing": {"saturation": 0.8, "fade": (0.45, 0.6), "outline": 1.0, "threshold": 20, "ink": (40, 35, 45)},
    "poster": {"levels": (5, 9), "saturation": (1.15, 1.35)},
    "pastel": {"saturation": (0.65, 0.85), "fade": (0.3, 0.45), "blur": 0.6, "grain": 0.03, "grain_size": 2},
    "sepia print": {"duotone": (0.85, 1.0), "dark": (45, 28, 15), "light": (252, 228, 182), "vignette": (0.0, 0.2), "grain": 0.02},
    "blueprint": {
        "duotone": 1.0, "dark": (15, 40, 120), "light": (150, 185, 240), "outline": (0.6, 0.9), "ink": (235, 242, 255), "threshold": 20,
    },
    "mosaic": {"blocks": (21, 27), "seam": (0.3, 0.5)},
    "stained glass": {"cells": (70, 100), "flatten": (0.5, 0.7), "seam": (0.6, 0.8), "saturation": (1.3, 1.5)},
    "low poly": {"cells": (190, 280), "flatten": 1.0, "facet": (0.02, 0.1)},
    "fresco": {"saturation": (0.5, 0.65), "tint": (1.06, 0.98, 0.84), "blur": 0.8, "grain": (0.045, 0.065), "grain_size": 2},
    "film still": {
        "saturation": 0.85, "value": (0.7, 0.85), "gamma": (1.15, 1.35), "tint": (0.9, 1.0, 1.12), "vignette": (0.2, 0.4), "blur": 0.5,
    },
    "comic": {"levels": (8, 16), "saturation": (1.2, 1.4), "outline": (0.75, 1.0), "ink": ((10, 40), (10, 40), (10, 40))},
    "crayon drawing": {
        "fade": (0.3, 0.45), "saturation": 1.1, "outline": (0.7, 0.9), "own_ink": 1.0, "grain": (0.03, 0.05), "threshold": 18,
    },
    "chalk drawing": {
        "saturation": 0.7, "value": (0.35, 0.5), "tint": (0.95, 1.05, 1.0), "outline": (0.7, 0.9), "ink": (225, 228, 220),
        "grain": 0.04,
    },
    "stage photo": {"slope": (-0.45, 0.45), "saturation": (0.9, 1.1), "gamma": (1.0, 1.15), "blur": (0.3, 0.9)},
    "lithograph": {
        "saturation": (0.4, 0.6), "levels": (6, 10), "outline": (0.4, 0.7), "ink": (50, 42, 38), "tint": (1.05, 1.0, 0.9),
        "grain": 0.03,
    },
}  # fmt: skip
WEIGHTS = {"photo": 5.0, "digital painting": 2.0, "illustration": 2.0}
"""Relative frequencies of the media; those not listed have 1."""
MIXED = "mixed media"
MIXED_WEIGHT = 3.0

STYLES: dict[str, Spec] = {
    "pixel-art": {"blocks": 24, "levels": 12, "saturation": 1.2},
    "anime": {"levels": 14, "saturation": 1.45, "value": 1.1, "outline": 1.0, "threshold": 22, "ink": (28, 15, 78)},
    "romanticism": {
        "saturation": 0.75, "value": 0.85, "tint": (1.15, 0.93, 0.66), "blur": 1.5, "vignette": 0.55, "grain": 0.05, "grain_size": 3,
    },
    "cubism": {"cells": 26, "shift": 7, "facet": 0.22, "saturation": 0.55, "tint": (1.1, 0.98, 0.78), "seam": 0.6},
    "sureb": {"saturation": 0.9, "value": 0.72, "gamma": 1.45, "outline": 0.9, "threshold": 28, "ink": (70, 165, 200), "vignette": 0.35},
    "realism": {"blur": 1.3, "saturation": 0.85, "slope": 0.75, "gamma": 1.1, "tint": (1.05, 1.0, 0.92), "grain": 0.04},
}  # fmt: skip
"""The six held-out target styles, named after the papers'."""


def look_of(name: str, rng: random.Random) -> Look:
    """Draw a look of a named medium, of ``mixed media`` or of a target style."""
    if name == MIXED:
        first, second = rng.sample(list(MEDIA), 2)
        return _mix(look_of(first, rng), look_of(second, rng), rng.uniform(0.3, 0.7))
    return Look(**draw_settings(MEDIA.get(name) or STYLES[name], rng))


def draw_settings(spec: Spec, rng: random.Random) -> dict[str, Any]:
    """A value for each setting of a look: the one given, or one drawn from the range given."""
    return {key: _draw(value, rng) for key, value in spec.items()}


def _draw(value: Any, rng: random.Random) -> Any:
    if isinstance(value, tuple) and len(value) == 2:
        return rng.uniform(*value)
    if isinstance(value, tuple):
        return tuple(rng.uniform(*part) if isinstance(part, tuple) else part for part in value)
    return value


def _mix(a: Look, b: Look, share: float) -> Look:
    mixed: dict[str, Any] = {}
    for field in fields(Look):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, tuple):
            mixed[field.name] = tuple((1 - share) * p + share * q for p, q in zip(x, y, strict=True))
        elif field.name in ("cells", "blocks", "levels", "simplify"):
            # Halfway between "no cells" and "80 cells" is not 40 cells: such operations are on or off.
            mixed[field.name] = x or y
        else:
            mixed[field.name] = (1 - share) * x + share * y
    return Look(**mixed)


def random_medium(rng: random.Random) -> str:
    """Draw a medium's name with its frequency in the bases' training set."""
    names = [*MEDIA, MIXED]
    return rng.choices(names, [*(WEIGHTS.get(name, 1.0) for name in MEDIA), MIXED_WEIGHT])[0]


def apply_look(flat: Image.Image, look: Look, rng: random.Random) -> Image.Image:
    """Render a flat scene (CANVAS × CANVAS) in a look; returns RGB, SIDE × SIDE."""
    noise = np.random.default_rng(rng.getrandbits(32))
    cells = _cells(look, noise) if look.cells else None
    image = _structure(flat, look, cells, noise)
    picture = _colour(np.asarray(image, dtype=np.float32), look)
    contour = _contour(image if look.shift else flat, look) if look.outline else None
    if contour is not None:
        ink = np.array(look.ink, dtype=np.float32) * (1 - look.own_ink) + 0.45 * np.asarray(image, dtype=np.float32) * look.own_ink
        picture = picture * (1 - contour) + contour * ink
    picture = _light(picture, look, noise)
    if look.seam:
        seams = _seams(cells, look)
        picture = picture * (1 - look.seam * seams)
    final = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if look.blocks and not look.seam:
        # Blocks must stay crisp: they are aligned to the final grid rather than blurred by the downscaling.
        count = max(2, round(look.blocks))
        final = final.resize((count, count), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return final


_Y, _X = np.mgrid[0:CANVAS, 0:CANVAS]
_POINTS = np.stack([_Y.ravel(), _X.ravel()], 1)


def _cells(look: Look, noise: np.random.Generator) -> NDArray[np.int64]:
    centres = noise.uniform(0, CANVAS, (max(4, round(look.cells)), 2))
    return np.asarray(cKDTree(centres).query(_POINTS)[1]).reshape(CANVAS, CANVAS)


def _structure(flat: Image.Image, look: Look, cells: NDArray[np.int64] | None, noise: np.random.Generator) -> Image.Image:
    image = flat
    if cells is not None:
        image = Image.fromarray(np.clip(_facets(np.asarray(flat, dtype=np.float32), look, cells, noise), 0, 255).astype(np.uint8))
    if look.simplify >= 3:
        image = image.filter(ImageFilter.ModeFilter(int(look.simplify) | 1))
    if look.blur:
        image = image.filter(ImageFilter.GaussianBlur(look.blur))
    if look.blocks:
        count = max(2, round(look.blocks))
        image = image.resize((count, count), Image.Resampling.BOX)
    if look.levels:
        image = image.quantize(max(2, round(look.levels)), dither=Image.Dither.NONE).convert("RGB")
    if look.blocks:
        image = image.resize((CANVAS, CANVAS), Image.Resampling.NEAREST)
    return image


def _facets(x: Array, look: Look, cells: NDArray[np.int64], noise: np.random.Generator) -> Array:
    count = int(cells.max()) + 1
    if look.shift:
        dy, dx = np.rint(noise.uniform(-look.shift, look.shift, (2, count))).astype(int)
        x = x[np.clip(_Y + dy[cells], 0, CANVAS - 1), np.clip(_X + dx[cells], 0, CANVAS - 1)]
    if look.flatten:
        index = cells.ravel()
        size = np.maximum(1, np.bincount(index, minlength=count))
        mean = np.stack([np.bincount(index, x[..., c].ravel(), count) / size for c in range(3)], 1)
        x = (1 - look.flatten) * x + look.flatten * mean[cells].astype(np.float32)
    if look.facet:
        x = x * (1 + noise.uniform(-look.facet, look.facet, count)[cells][..., None].astype(np.float32))
    return x


def _colour(x: Array, look: Look) -> Array:
    gray = x @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    x = gray[..., None] + look.saturation * (x - gray[..., None])
    x = np.clip(x * look.value, 0, 255)
    if look.gamma != 1:
        x = 255 * (x / 255) ** look.gamma
    if look.duotone:
        share = (gray / 255)[..., None]
        print_ = (1 - share) * np.array(look.dark, dtype=np.float32) + share * np.array(look.light, dtype=np.float32)
        x = (1 - look.duotone) * x + look.duotone * print_
    x = x * np.array(look.tint, dtype=np.float32)
    return 255 - (255 - x) * (1 - look.fade)


def _contour(image: Image.Image, look: Look) -> Array:
    edges = image.convert("L").filter(ImageFilter.FIND_EDGES)
    mask = (np.asarray(edges, dtype=np.float32) > look.threshold).astype(np.float32)
    mask[:2] = mask[-2:] = 0
    mask[:, :2] = mask[:, -2:] = 0
    thick = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(3))
    return look.outline * np.asarray(thick, dtype=np.float32)[..., None] / 255


def _light(x: Array, look: Look, noise: np.random.Generator) -> Array:
    if look.slope:
        x = x * (1 + look.slope * np.linspace(0.5, -0.5, CANVAS, dtype=np.float32)[None, :, None] - 0.08 * abs(look.slope))
    if look.vignette:
        radius = ((_X / CANVAS * 2 - 1) ** 2 + (_Y / CANVAS * 2 - 1) ** 2).astype(np.float32)
        x = x * (1 - look.vignette * np.clip(radius - 0.3, 0, 1.4))[..., None]
    if look.grain:
        size = max(1, round(look.grain_size))
        count = -(-CANVAS // size)
        texture = noise.normal(0, look.grain, (count, count)).astype(np.float32)
        x = x + 150 * np.kron(texture, np.ones((size, size), dtype=np.float32))[:CANVAS, :CANVAS, None]
    return x


def _seams(cells: NDArray[np.int64] | None, look: Look) -> Array:
    if cells is not None:
        lines = (np.diff(cells, axis=0, prepend=cells[:1]) != 0) | (np.diff(cells, axis=1, prepend=cells[:, :1]) != 0)
    elif look.blocks:
        cell = np.floor(np.arange(CANVAS) * max(2, round(look.blocks)) / CANVAS)
        edge = np.diff(cell, prepend=cell[:1]) != 0
        lines = edge[None, :] | edge[:, None]
    else:
        lines = np.zeros((CANVAS, CANVAS), dtype=bool)
    return lines[..., None].astype(np.float32)
