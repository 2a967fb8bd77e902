"""The eight things, drawn flat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from components.pocket.pen import Colour, Pen

At = Callable[[float, float], tuple[float, float]]
"""From a thing's own coordinates to the canvas."""


def draw_thing(pen: Pen, kind: str, colour: Colour) -> None:
    """Draw a thing of :data:`DRAW` in a colour; birds fly, and the rest stand on the ground."""
    rng = pen.rng
    paint, scale = pen.tone(colour, 8), rng.uniform(1.0, 1.25)
    x, y = rng.uniform(0.36, 0.64), (0.4 if kind == "bird" else 0.8) + rng.uniform(-0.03, 0.04)
    DRAW[kind](pen, paint, lambda px, py: (x + px * scale, y + py * scale), scale)


def _shade(colour: Colour, share: float) -> Colour:
    return int(colour[0] * share), int(colour[1] * share), int(colour[2] * share)


def _car(pen: Pen, paint: Colour, at: At, k: float) -> None:
    pen.box(*at(-0.25, -0.11), *at(0.25, 0.05), paint, 0.03)
    pen.poly([at(-0.16, -0.1), at(-0.1, -0.22), at(0.11, -0.22), at(0.18, -0.1)], paint)
    pen.poly([at(-0.12, -0.11), at(-0.08, -0.19), at(-0.01, -0.19), at(-0.01, -0.11)], (192, 222, 242))
    pen.poly([at(0.02, -0.11), at(0.02, -0.19), at(0.09, -0.19), at(0.13, -0.11)], (192, 222, 242))
    for side in (-0.14, 0.14):
        pen.disc(*at(side, 0.05), 0.06 * k, (34, 34, 40))
        pen.disc(*at(side, 0.05), 0.024 * k, (190, 190, 195))


def _boat(pen: Pen, paint: Colour, at: At, k: float) -> None:
    pen.line([at(0, -0.04), at(0, -0.42)], (92, 62, 42), 0.025)
    pen.poly([at(0.025, -0.41), at(0.025, -0.08), at(0.23, -0.08)], (247, 247, 242))
    pen.poly([at(-0.025, -0.36), at(-0.025, -0.08), at(-0.16, -0.08)], (228, 228, 222))
    pen.poly([at(-0.27, -0.05), at(0.27, -0.05), at(0.17, 0.09), at(-0.17, 0.09)], paint)


def _house(pen: Pen, paint: Colour, at: At, k: float) -> None:
    pen.box(*at(-0.2, -0.24), *at(0.2, 0.09), paint)
    pen.poly([at(-0.25, -0.24), at(0, -0.45), at(0.25, -0.24)], (134, 62, 46))
    pen.box(*at(-0.045, -0.08), *at(0.045, 0.09), (90, 60, 40))
    for side in (-0.125, 0.125):
        pen.box(*at(side - 0.045, -0.17), *at(side + 0.045, -0.08), (252, 236, 165))


def _tree(pen: Pen, paint: Colour, at: At, k: float) -> None:
    pen.box(*at(-0.04, -0.2), *at(0.04, 0.1), (102, 72, 46))
    for px, py in ((-0.11, -0.26), (0.11, -0.26), (0, -0.4)):
        pen.disc(*at(px, py), 0.15 * k, paint)


def _pet(pen: Pen, paint: Colour, at: At, k: float, dog: bool) -> None:
    dark = (32, 30, 36)
    for px in (-0.13, -0.05, 0.05, 0.12):
        pen.box(*at(px - 0.025, 0), *at(px + 0.025, 0.11), paint)
    pen.disc(*at(-0.01, -0.05), 0.18 * k, paint, 0.1 * k)
    if dog:
        pen.line([at(-0.17, -0.08), at(-0.26, -0.15)], paint, 0.04 * k)
        pen.disc(*at(0.18, -0.2), 0.105 * k, paint)
        pen.disc(*at(0.28, -0.17), 0.065 * k, paint, 0.05 * k)
        pen.disc(*at(0.33, -0.185), 0.022 * k, dark)
        pen.disc(*at(0.1, -0.19), 0.035 * k, _shade(paint, 0.55), 0.09 * k)
    else:
        pen.line([at(-0.16, -0.06), at(-0.27, -0.2), at(-0.23, -0.3)], paint, 0.035 * k)
        pen.disc(*at(0.18, -0.19), 0.105 * k, paint)
        for side in (-1, 1):
            pen.poly([at(0.18 + side * 0.1, -0.21), at(0.18 + side * 0.085, -0.37), at(0.18 + side * 0.01, -0.27)], paint)
    for px in (0.145, 0.215):
        pen.disc(*at(px, -0.21), 0.016 * k, (245, 245, 240) if sum(paint) < 180 else dark)


def _bird(pen: Pen, paint: Colour, at: At, k: float) -> None:
    shade = _shade(paint, 0.7)
    pen.poly([at(-0.14, 0), at(-0.28, -0.07), at(-0.27, 0.06)], shade)
    pen.disc(*at(-0.02, 0.01), 0.16 * k, paint, 0.09 * k)
    pen.disc(*at(0.13, -0.07), 0.08 * k, paint)
    pen.poly([at(0.2, -0.1), at(0.29, -0.06), at(0.2, -0.03)], (245, 170, 50))
    pen.poly([at(-0.08, -0.02), at(-0.17, -0.25), at(0.06, -0.05)], shade)
    pen.disc(*at(0.15, -0.085), 0.017 * k, (245, 245, 240) if sum(paint) < 180 else (32, 30, 36))


def _flower(pen: Pen, paint: Colour, at: At, k: float) -> None:
    pen.line([at(0, 0.12), at(0, -0.26)], (52, 132, 62), 0.035)
    pen.disc(*at(0.08, -0.02), 0.075 * k, (52, 132, 62), 0.035 * k)
    for angle in np.linspace(0, 2 * np.pi, 6, endpoint=False):
        pen.disc(*at(0.115 * np.cos(angle), -0.3 + 0.115 * np.sin(angle)), 0.075 * k, paint)
    pen.disc(*at(0, -0.3), 0.065 * k, (250, 210, 70) if paint[2] > 110 or paint[1] < 150 else (120, 75, 40))


DRAW: dict[str, Callable[[Pen, Colour, At, float], None]] = {
    "car": _car, "boat": _boat, "house": _house, "tree": _tree,
    "cat": partial(_pet, dog=False), "dog": partial(_pet, dog=True), "bird": _bird, "flower": _flower,
}  # fmt: skip
"""How each thing is drawn, in the order of the classes that the probe and the evaluator know."""
