"""What the pocket world is drawn with: a Pillow canvas of twice the final side, in the coordinates of a unit square."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
CANVAS = 2 * SIDE
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]


class Pen:
    """A Pillow canvas in unit coordinates, with colours jittered by the scene's own random stream."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.image = Image.new("RGB", (CANVAS, CANVAS))
        self.draw = ImageDraw.Draw(self.image)

    def tone(self, colour: Sequence[float], spread: float = 12) -> Colour:
        """The colour, made slightly lighter or darker and slightly shifted in hue."""
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

    def chord(self, box: Box, start: float, end: float, fill: Colour) -> None:
        """A segment of the ellipse in ``box`` (left, top, right, bottom), between two angles in degrees."""
        self.draw.chord([edge * CANVAS for edge in box], start, end, fill)

    def arc(self, box: Box, start: float, end: float, fill: Colour, width: float) -> None:
        """An arc of the ellipse in ``box`` (left, top, right, bottom), between two angles in degrees."""
        self.draw.arc([edge * CANVAS for edge in box], start, end, fill, max(1, round(width * CANVAS)))
