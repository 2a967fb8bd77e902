"""Scenes of the pocket world: what is in a picture, drawn flat, before any medium touches it.

A scene is a background with, perhaps, a person or a thing in front. Everything is drawn with Pillow on a canvas of
``CANVAS`` pixels, twice the final side, in coordinates of a unit square.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
CANVAS = 2 * SIDE

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 40),
    "blue": (50, 85, 205),
    "green": (40, 150, 70),
    "yellow": (235, 205, 50),
    "purple": (130, 60, 170),
    "orange": (240, 135, 40),
    "white": (240, 240, 240),
    "black": (35, 35, 40),
    "brown": (120, 80, 50),
    "pink": (240, 145, 180),
}
HAIR: dict[str, tuple[int, int, int]] = {
    "blond": (235, 205, 110),
    "black": (30, 26, 28),
    "brown": (105, 65, 35),
    "red": (185, 75, 30),
    "gray": (160, 160, 165),
}
SKIN = ((238, 198, 168), (196, 142, 104), (140, 94, 66))
BACKGROUNDS = ("mountains", "beach", "city", "forest", "desert", "field", "night sky", "room", "snow")
PEOPLE = ("man", "woman", "boy", "girl")
THINGS = ("car", "boat", "house", "tree", "cat", "dog", "bird", "flower")
SUBJECTS = (*PEOPLE, *THINGS, "none")
"""The classes of "subject kind": four people, eight things, none."""

Colour = tuple[int, int, int]
At = Callable[[float, float], tuple[float, float]]
"""From a thing's own coordinates to the canvas."""


@dataclass(frozen=True)
class Scene:
    """What a picture shows. ``who`` is a person or None, ``thing`` a thing or None; never both."""

    background: str
    who: str | None = None
    hair: str | None = None
    clothes: str | None = None
    hat: str | None = None
    full_body: bool = False
    patterned: bool = False
    thing: str | None = None
    colour: str | None = None

    @property
    def role(self) -> str:
        """``character``, ``background`` or ``thing``, as in a manifest."""
        return "character" if self.who else "thing" if self.thing else "background"

    @property
    def subject(self) -> str:
        """One of :data:`SUBJECTS`."""
        return self.who or self.thing or "none"

    @property
    def garment(self) -> str:
        """The word for the clothes: women and girls seen in full wear a dress."""
        return "dress" if self.who in ("woman", "girl") and self.full_body else "shirt"


def random_scene(rng: random.Random, role: str | None = None) -> Scene:
    """Draw a scene: 45 % people, 25 % backgrounds, 30 % things, unless ``role`` says which."""
    background = rng.choice(BACKGROUNDS)
    role = role or rng.choices(("character", "background", "thing"), (45, 25, 30))[0]
    if role == "character":
        return Scene(
            background,
            who=rng.choice(PEOPLE),
            hair=rng.choice(list(HAIR)),
            clothes=rng.choice(list(COLOURS)),
            hat=rng.choice(list(COLOURS)) if rng.random() < 0.35 else None,
            full_body=rng.random() < 0.5,
            patterned=rng.random() < 0.2,
        )
    if role == "thing":
        return Scene(background, thing=rng.choice(THINGS), colour=rng.choice(list(COLOURS)))
    return Scene(background)


def draw_scene(scene: Scene, rng: random.Random) -> Image.Image:
    """Draw a scene flat; ``rng`` decides positions and small colour changes. Returns RGB, CANVAS × CANVAS."""
    pen = Pen(rng)
    horizon = rng.uniform(0.5, 0.64)
    _BACKGROUND[scene.background](pen, horizon)
    if scene.who:
        _person(pen, scene)
    elif scene.thing:
        _thing(pen, scene.thing, COLOURS[scene.colour or "red"])
    return pen.image


class Pen:
    """A Pillow canvas in unit coordinates, with a jitter of colours from the scene's own random stream."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.image = Image.new("RGB", (CANVAS, CANVAS))
        self.draw = ImageDraw.Draw(self.image)

    def tone(self, colour: Sequence[float], spread: float = 12) -> Colour:
        """The colour, a little lighter or darker and a little off hue."""
        shift = self.rng.uniform(-spread, spread)
        r, g, b = (int(np.clip(c + shift + self.rng.uniform(-spread / 2, spread / 2), 0, 255)) for c in colour)
        return r, g, b

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Fill the canvas with a vertical gradient."""
        ramp = np.linspace(0, 1, CANVAS)[:, None, None]
        rows = (1 - ramp) * np.array(self.tone(top)) + ramp * np.array(self.tone(bottom))
        self.image.paste(Image.fromarray(np.broadcast_to(rows, (CANVAS, CANVAS, 3)).astype(np.uint8)))

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0) -> None:
        """A (rounded) rectangle."""
        corners = [(x0 * CANVAS, y0 * CANVAS), (x1 * CANVAS, y1 * CANVAS)]
        if radius:
            self.draw.rounded_rectangle(corners, radius * CANVAS, fill)
        else:
            self.draw.rectangle(corners, fill)

    def disc(self, x: float, y: float, rx: float, fill: Colour, ry: float | None = None) -> None:
        """An ellipse around (x, y)."""
        ry = rx if ry is None else ry
        self.draw.ellipse([(x - rx) * CANVAS, (y - ry) * CANVAS, (x + rx) * CANVAS, (y + ry) * CANVAS], fill)

    def poly(self, points: Sequence[tuple[float, float]], fill: Colour) -> None:
        """A polygon."""
        self.draw.polygon([(x * CANVAS, y * CANVAS) for x, y in points], fill)

    def line(self, points: Sequence[tuple[float, float]], fill: Colour, width: float) -> None:
        """A line of the given width."""
        self.draw.line([(x * CANVAS, y * CANVAS) for x, y in points], fill, max(1, round(width * CANVAS)))


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


_BACKGROUND = {
    "mountains": _mountains,
    "beach": _beach,
    "city": _city,
    "forest": _forest,
    "desert": _desert,
    "field": _field,
    "night sky": _night_sky,
    "room": _room,
    "snow": _snow,
}


def _pattern(pen: Pen, before: Image.Image, top: float, colour: Colour) -> None:
    """Stamp stripes, checks or dots on everything drawn since ``before`` and below ``top``."""
    now, then = np.asarray(pen.image).astype(int), np.asarray(before).astype(int)
    mask = np.abs(now - then).sum(-1) > 0
    mask[: int(top * CANVAS)] = False
    y, x = np.mgrid[0:CANVAS, 0:CANVAS]
    width = pen.rng.choice((6, 8))
    kind = pen.rng.choice(("rows", "columns", "checks", "dots"))
    half = (width + 4) / 2
    stamp = {
        "rows": (y // width) % 2 == 0,
        "columns": (x // width) % 2 == 0,
        "checks": ((x // width) + (y // width)) % 2 == 0,
        "dots": (x % (width + 4) - half) ** 2 + (y % (width + 4) - half) ** 2 < (width / 2.4) ** 2,
    }[kind]
    painted = now.astype(np.uint8)
    painted[mask & stamp] = colour
    pen.image.paste(Image.fromarray(painted))


def _person(pen: Pen, scene: Scene) -> None:
    """Men have beards, women long hair and dresses, boys are small with spiky hair, girls small with pigtails."""
    rng = pen.rng
    child = scene.who in ("boy", "girl")
    scale = (1.0 if scene.full_body else 1.75) * (0.8 if child else 1.0)
    cx = 0.5 + rng.uniform(-0.14, 0.14) * (1.0 if scene.full_body else 0.6)
    feet = 0.97 if scene.full_body else 1.04
    head = 0.105 * scale * (1.12 if child else 1.0)
    top = feet - (0.78 if scene.full_body else 0.47) * scale
    face_y = top + head
    chest = face_y + head * 1.02
    skin, hair = pen.tone(rng.choice(SKIN), 8), pen.tone(HAIR[scene.hair or "brown"], 6)
    cloth = pen.tone(COLOURS[scene.clothes or "red"], 8)
    _back_hair(pen, scene.who, cx, face_y, head, hair)
    before = pen.image.copy()
    _body(pen, scene, cx, chest, feet, scale, cloth, skin)
    if scene.patterned:
        other = rng.choice([colour for name, colour in COLOURS.items() if name != scene.clothes])
        _pattern(pen, before, chest, pen.tone(other, 6))
    pen.box(cx - 0.032 * scale, face_y + head * 0.7, cx + 0.032 * scale, chest + 0.02 * scale, skin)
    _face(pen, scene, cx, face_y, head, hair, skin)


def _back_hair(pen: Pen, who: str | None, cx: float, y: float, head: float, hair: Colour) -> None:
    if who == "woman":
        pen.box(cx - head * 1.4, y - head * 0.7, cx + head * 1.4, y + head * 2.2, hair, head * 0.7)
    elif who == "girl":
        for side in (-1, 1):
            pen.disc(cx + side * head * 1.5, y + head * 0.25, head * 0.55, hair, head * 0.8)


def _body(pen: Pen, scene: Scene, cx: float, chest: float, feet: float, k: float, cloth: Colour, skin: Colour) -> None:
    child = scene.who in ("boy", "girl")
    if scene.full_body:
        hip, leg = chest + 0.24 * k, skin if scene.garment == "dress" or child else (52, 56, 92)
        for side in (-1, 1):
            pen.box(cx + side * 0.045 * k - 0.03 * k, hip - 0.02, cx + side * 0.045 * k + 0.03 * k, feet, leg)
        if scene.garment == "dress":
            pen.poly(
                [
                    (cx - 0.075 * k, hip - 0.08 * k),
                    (cx + 0.075 * k, hip - 0.08 * k),
                    (cx + 0.155 * k, hip + 0.16 * k),
                    (cx - 0.155 * k, hip + 0.16 * k),
                ],
                cloth,
            )
        elif child:
            pen.box(cx - 0.078 * k, hip - 0.03 * k, cx + 0.078 * k, hip + 0.08 * k, (52, 56, 92))
    bottom = chest + (0.25 * k if scene.full_body else 0.6)
    pen.box(cx - 0.105 * k, chest, cx + 0.105 * k, bottom, cloth, 0.045 * k)
    for side in (-1, 1):
        left, right = sorted((cx + side * 0.1 * k, cx + side * 0.158 * k))
        pen.box(left, chest + 0.015 * k, right, chest + (0.12 if child else 0.23) * k, cloth, 0.025 * k)
        if child:
            pen.box(left + 0.01 * k, chest + 0.115 * k, right - 0.01 * k, chest + 0.23 * k, skin)


def _face(pen: Pen, scene: Scene, cx: float, y: float, head: float, hair: Colour, skin: Colour) -> None:
    pen.disc(cx, y, head, skin, head * 1.12)
    if scene.who == "man":
        pen.draw.chord(
            [(cx - head * 1.02) * CANVAS, (y - head * 0.9) * CANVAS, (cx + head * 1.02) * CANVAS, (y + head * 1.25) * CANVAS], 20, 160, hair
        )
    pen.draw.chord(
        [(cx - head * 1.12) * CANVAS, (y - head * 1.3) * CANVAS, (cx + head * 1.12) * CANVAS, (y + head * 0.75) * CANVAS], 192, 348, hair
    )
    if scene.who == "boy":
        for shift in (-0.75, -0.25, 0.25, 0.75):
            pen.poly(
                [
                    (cx + head * (shift - 0.3), y - head * 0.75),
                    (cx + head * shift, y - head * 1.6),
                    (cx + head * (shift + 0.3), y - head * 0.75),
                ],
                hair,
            )
    for side in (-1, 1):
        pen.disc(cx + side * head * 0.42, y + head * 0.02, max(0.011, head * 0.14), (28, 28, 38))
    pen.draw.arc(
        [(cx - head * 0.4) * CANVAS, (y + head * 0.1) * CANVAS, (cx + head * 0.4) * CANVAS, (y + head * 0.66) * CANVAS],
        20,
        160,
        (165, 50, 50),
        max(1, round(head * 0.14 * CANVAS)),
    )
    if scene.hat:
        colour = pen.tone(COLOURS[scene.hat], 6)
        pen.disc(cx, y - head * 0.72, head * 1.65, colour, head * 0.27)
        pen.box(cx - head * 0.95, y - head * 1.75, cx + head * 0.95, y - head * 0.72, colour, head * 0.25)


def _shade(colour: Colour, share: float) -> Colour:
    return int(colour[0] * share), int(colour[1] * share), int(colour[2] * share)


def _thing(pen: Pen, kind: str, colour: Colour) -> None:
    rng = pen.rng
    paint, scale = pen.tone(colour, 8), rng.uniform(1.0, 1.25)
    x, y = rng.uniform(0.36, 0.64), (0.4 if kind == "bird" else 0.8) + rng.uniform(-0.03, 0.04)
    _THING[kind](pen, paint, lambda px, py: (x + px * scale, y + py * scale), scale)


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


_THING = {
    "car": _car,
    "boat": _boat,
    "house": _house,
    "tree": _tree,
    "cat": lambda pen, paint, at, k: _pet(pen, paint, at, k, dog=False),
    "dog": lambda pen, paint, at, k: _pet(pen, paint, at, k, dog=True),
    "bird": _bird,
    "flower": _flower,
}
