"""The nine backgrounds, drawn flat around a horizon."""

from __future__ import annotations

import numpy as np

from components.pocket.pen import Pen


def _mountains(pen: Pen, horizon: float) -> None:
    pen.gradient((120, 170, 225), (215, 228, 238))
    for layer in range(2):
        colour, x = pen.tone((95 + 25 * layer, 105 + 15 * layer, 130 - 12 * layer), 8), -0.15
        while x < 1:
            width, height = pen.rng.uniform(0.28, 0.45), pen.rng.uniform(0.26, 0.38) - 0.1 * layer
            foot, peak = horizon + 0.08 + 0.04 * layer, (x + width / 2, horizon - height + 0.08 * layer)
            pen.poly([(x, foot), peak, (x + width, foot)], colour)
            if layer == 0:
                snow = 0.07
                pen.poly([(peak[0] - snow * 0.5, peak[1] + snow), peak, (peak[0] + snow * 0.5, peak[1] + snow)], (244, 246, 250))
            x += width * pen.rng.uniform(0.55, 0.75)
    pen.box(0, horizon + 0.1, 1, 1, pen.tone((95, 135, 80)))


def _beach(pen: Pen, horizon: float) -> None:
    pen.gradient((110, 190, 240), (225, 242, 246))
    pen.disc(pen.rng.uniform(0.12, 0.88), 0.14, 0.075, (252, 232, 120))
    pen.box(0, horizon - 0.12, 1, horizon + 0.1, pen.tone((30, 120, 195)))
    pen.box(0, horizon + 0.1, 1, 1, pen.tone((238, 214, 164)))


def _city(pen: Pen, horizon: float) -> None:
    pen.gradient((150, 170, 195), (225, 220, 210))
    x, ground = -0.03, horizon + 0.16
    while x < 1:
        width, top = pen.rng.uniform(0.13, 0.2), ground - pen.rng.uniform(0.25, 0.6)
        pen.box(x, top, x + width, ground, pen.tone((110, 110, 128), 24))
        for row in np.arange(top + 0.03, ground - 0.05, 0.075):
            for column in np.arange(x + 0.02, x + width - 0.035, 0.055):
                pen.box(column, row, column + 0.024, row + 0.032, (245, 224, 140) if pen.rng.random() < 0.65 else (70, 80, 102))
        x += width + pen.rng.uniform(0, 0.025)
    pen.box(0, ground, 1, 1, pen.tone((88, 88, 94)))


def _forest(pen: Pen, horizon: float) -> None:
    pen.gradient((150, 205, 215), (205, 230, 195))
    pen.box(0, horizon + 0.05, 1, 1, pen.tone((70, 118, 55)))
    for index in range(11):
        x, y = (index + pen.rng.uniform(0, 1)) / 11, horizon + pen.rng.uniform(0.03, 0.2)
        height, colour = pen.rng.uniform(0.3, 0.48), pen.tone((35, 102, 50), 16)
        pen.box(x - 0.014, y - 0.06, x + 0.014, y, (88, 62, 42))
        pen.poly([(x - 0.085, y - 0.05), (x, y - height), (x + 0.085, y - 0.05)], colour)


def _desert(pen: Pen, horizon: float) -> None:
    pen.gradient((244, 190, 115), (252, 228, 172))
    pen.disc(pen.rng.uniform(0.15, 0.85), 0.15, 0.085, (255, 244, 200))
    for layer in range(3):
        y, left = horizon + 0.13 * layer, pen.rng.uniform(-0.6, 0.2)
        pen.disc(left + 0.55, y + 0.5, pen.rng.uniform(0.7, 1.0), pen.tone((228 - 20 * layer, 176 - 20 * layer, 106 - 12 * layer), 8), 0.55)
    x, foot = pen.rng.choice((0.1, 0.9)), horizon + 0.16
    cactus = pen.tone((70, 130, 70), 8)
    pen.box(x - 0.025, foot - 0.24, x + 0.025, foot, cactus, 0.02)
    pen.box(x - 0.08, foot - 0.17, x - 0.045, foot - 0.08, cactus, 0.015)
    pen.box(x - 0.08, foot - 0.11, x, foot - 0.08, cactus)


def _field(pen: Pen, horizon: float) -> None:
    pen.gradient((120, 192, 245), (232, 242, 242))
    for _ in range(2):
        x, y = pen.rng.uniform(0.1, 0.8), pen.rng.uniform(0.06, 0.24)
        for shift, drop in ((-0.07, 0.02), (0, 0), (0.07, 0.025)):
            pen.disc(x + shift, y + drop, 0.075, (250, 251, 253), 0.045)
    pen.box(0, horizon, 1, 1, pen.tone((115, 180, 72)))
    for _ in range(18):
        x, y = pen.rng.uniform(0, 1), pen.rng.uniform(horizon + 0.04, 1)
        pen.disc(x, y, 0.017, pen.rng.choice(((242, 232, 90), (242, 120, 152), (252, 252, 252))))


def _night_sky(pen: Pen, horizon: float) -> None:
    pen.gradient((10, 12, 42), (45, 45, 98))
    for _ in range(26):
        pen.disc(pen.rng.uniform(0, 1), pen.rng.uniform(0, horizon), 0.009, (252, 252, 225))
    x = pen.rng.uniform(0.15, 0.85)
    pen.disc(x, 0.17, 0.095, (247, 242, 208))
    pen.box(0, horizon + 0.1, 1, 1, pen.tone((24, 34, 46), 6))


def _room(pen: Pen, horizon: float) -> None:
    wall = pen.tone((198, 178, 156))
    pen.gradient(wall, wall)
    pen.box(0, horizon + 0.14, 1, 1, pen.tone((142, 96, 60)))
    x = pen.rng.choice((0.06, 0.62)) + pen.rng.uniform(-0.03, 0.03)
    pen.box(x, 0.1, x + 0.32, 0.44, (248, 244, 232))
    for column in (0.03, 0.175):
        pen.box(x + column, 0.13, x + column + 0.115, 0.41, (152, 208, 242))


def _snow(pen: Pen, horizon: float) -> None:
    pen.gradient((178, 195, 218), (236, 241, 246))
    pen.box(0, horizon, 1, 1, pen.tone((242, 246, 251), 5))
    for index in range(4):
        x, y = (index + pen.rng.uniform(0.1, 0.9)) / 4, horizon + pen.rng.uniform(0, 0.08)
        pen.poly([(x - 0.075, y), (x, y - 0.28), (x + 0.075, y)], pen.tone((62, 98, 88), 8))
    for _ in range(26):
        pen.disc(pen.rng.uniform(0, 1), pen.rng.uniform(0, 1), 0.013, (255, 255, 255))


DRAW = {
    "mountains": _mountains, "beach": _beach, "city": _city, "forest": _forest, "desert": _desert, "field": _field,
    "night sky": _night_sky, "room": _room, "snow": _snow,
}  # fmt: skip
"""How each background is drawn, in the order of the classes that the probe and the evaluator know."""
