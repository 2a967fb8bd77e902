"""Scenes of the pocket world, before they are drawn: a background and, perhaps, a person or a thing."""

from __future__ import annotations

import random
from dataclasses import dataclass

from components.pocket import backgrounds, things
from components.pocket.pen import Colour

COLOURS: dict[str, Colour] = {
    "red": (205, 40, 40), "blue": (50, 85, 205), "green": (40, 150, 70), "yellow": (235, 205, 50), "purple": (130, 60, 170),
    "orange": (240, 135, 40), "white": (240, 240, 240), "black": (35, 35, 40), "brown": (120, 80, 50), "pink": (240, 145, 180),
}  # fmt: skip
HAIR: dict[str, Colour] = {
    "blond": (235, 205, 110), "black": (30, 26, 28), "brown": (105, 65, 35), "red": (185, 75, 30), "gray": (160, 160, 165),
}  # fmt: skip
SKIN: tuple[Colour, ...] = ((238, 198, 168), (196, 142, 104), (140, 94, 66))
BACKGROUNDS = tuple(backgrounds.DRAW)
PEOPLE = ("man", "woman", "boy", "girl")
THINGS = tuple(things.DRAW)
SUBJECTS = (*PEOPLE, *THINGS, "none")
"""The subject classes: four people, eight things, none."""


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
        """The word for the clothes: women and girls shown full-length wear a dress."""
        return "dress" if self.who in ("woman", "girl") and self.full_body else "shirt"


def random_scene(rng: random.Random, role: str | None = None) -> Scene:
    """Draw a scene: 45 % people, 25 % backgrounds, 30 % things, unless ``role`` is given."""
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
