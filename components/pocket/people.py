"""People of the pocket world, drawn flat."""

from __future__ import annotations

import numpy as np
from PIL import Image

from components.pocket.pen import CANVAS, Colour, Pen
from components.pocket.scenes import COLOURS, HAIR, SKIN, Scene


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


def draw_person(pen: Pen, scene: Scene) -> None:
    """Draw a person: men have beards, women long hair and dresses; boys are small with spiky hair, girls small with pigtails."""
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
            waist, hem = hip - 0.08 * k, hip + 0.16 * k
            pen.poly([(cx - 0.075 * k, waist), (cx + 0.075 * k, waist), (cx + 0.155 * k, hem), (cx - 0.155 * k, hem)], cloth)
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
        pen.chord((cx - head * 1.02, y - head * 0.9, cx + head * 1.02, y + head * 1.25), 20, 160, hair)
    pen.chord((cx - head * 1.12, y - head * 1.3, cx + head * 1.12, y + head * 0.75), 192, 348, hair)
    if scene.who == "boy":
        for shift in (-0.75, -0.25, 0.25, 0.75):
            left, right = cx + head * (shift - 0.3), cx + head * (shift + 0.3)
            pen.poly([(left, y - head * 0.75), (cx + head * shift, y - head * 1.6), (right, y - head * 0.75)], hair)
    for side in (-1, 1):
        pen.disc(cx + side * head * 0.42, y + head * 0.02, max(0.011, head * 0.14), (28, 28, 38))
    pen.arc((cx - head * 0.4, y + head * 0.1, cx + head * 0.4, y + head * 0.66), 20, 160, (165, 50, 50), head * 0.14)
    if scene.hat:
        colour = pen.tone(COLOURS[scene.hat], 6)
        pen.disc(cx, y - head * 0.72, head * 1.65, colour, head * 0.27)
        pen.box(cx - head * 0.95, y - head * 1.75, cx + head * 0.95, y - head * 0.72, colour, head * 0.25)
