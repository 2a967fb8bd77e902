"""Looks in words: adjectives that change a medium, so that the base knows a space of styles and not a list of them.

A quality, such as "dark", "warm" or "blue line", is a range for a few settings of the chain in
:mod:`components.pocket.media`. One to three qualities of different kinds modify a medium or a plain picture. A new style
then lies between and beyond the looks that the base has words for, and is not foreign to it; no target style is a
combination of so few qualities.
"""

from __future__ import annotations

import random
from dataclasses import replace

from components.pocket.media import MEDIA, MIXED, STYLES, Look, Spec, draw_settings, look_of

PLAIN = "picture"
"""The medium that changes nothing: the flat scene."""
MOST = 3
"""Largest number of qualities in a look."""
KINDS: dict[str, dict[str, Spec]] = {
    "light": {"dark": {"value": (0.6, 0.8), "gamma": (1.15, 1.5)}, "bright": {"value": (1.08, 1.2)}},
    "colour": {"vivid": {"saturation": (1.3, 1.6)}, "muted": {"saturation": (0.4, 0.75)}, "gray": {"saturation": (0.0, 0.15)}},
    "tone": {
        "warm": {"tint": ((1.04, 1.18), (0.93, 1.0), (0.6, 0.9))},
        "cold": {"tint": ((0.75, 0.94), (0.97, 1.03), (1.04, 1.2))},
        "faded": {"fade": (0.2, 0.5)},
    },
    "sharpness": {"soft": {"blur": (0.9, 1.8)}, "flat": {"levels": (5, 18)}, "simple": {"simplify": (5, 9)}},
    "line": {
        "ink": {"outline": (0.7, 1.0), "ink": ((10, 40), (10, 40), (10, 40)), "threshold": (18, 30)},
        "blue line": {"outline": (0.7, 1.0), "ink": ((20, 90), (40, 150), (120, 220)), "threshold": (18, 30)},
        "red line": {"outline": (0.7, 1.0), "ink": ((140, 220), (20, 80), (20, 80)), "threshold": (18, 30)},
        "green line": {"outline": (0.7, 1.0), "ink": ((20, 90), (120, 200), (40, 110)), "threshold": (18, 30)},
        "purple line": {"outline": (0.7, 1.0), "ink": ((60, 140), (10, 70), (100, 190)), "threshold": (18, 30)},
        "white line": {"outline": (0.7, 1.0), "ink": ((215, 250), (215, 250), (215, 250)), "threshold": (18, 30)},
    },
    "form": {
        "pixel": {"blocks": (27, 34)},
        "broken": {"cells": (16, 60), "shift": (3, 9), "facet": (0.05, 0.2)},
        "cells": {"cells": (30, 120), "seam": (0.4, 0.8), "facet": (0.0, 0.15)},
    },
    "side": {"left light": {"slope": (0.35, 0.9)}, "right light": {"slope": (-0.9, -0.35)}},
    "edge": {"vignette": {"vignette": (0.25, 0.6)}},
    "surface": {"grain": {"grain": (0.035, 0.07), "grain_size": (1, 4)}},
}
QUALITIES: dict[str, Spec] = {name: spec for kind in KINDS.values() for name, spec in kind.items()}
"""Every quality by its name."""


def draw_name(rng: random.Random) -> str:
    """One to three qualities of different kinds and a medium, as one would say them: ``dark left light illustration``."""
    kinds = rng.sample(list(KINDS), rng.randint(1, MOST))
    words = [rng.choice(list(KINDS[kind])) for kind in kinds]
    return " ".join([*words, PLAIN if rng.random() < 0.6 else rng.choice(list(MEDIA))])


def look_named(name: str, rng: random.Random) -> Look:
    """Draw the look of a medium, of ``mixed media``, of a target style, or of a name from :func:`draw_name`; ValueError for others."""
    if name in MEDIA or name in STYLES or name == MIXED:
        return look_of(name, rng)
    medium = max((known for known in (PLAIN, *MEDIA) if name.endswith(" " + known)), key=len, default=None)
    if medium is None:
        raise ValueError(f"{name!r} names no medium")
    look, rest = Look() if medium == PLAIN else look_of(medium, rng), name.removesuffix(medium).strip()
    while rest:
        quality = next((known for known in QUALITIES if f"{rest} ".startswith(known + " ")), None)
        if quality is None:
            raise ValueError(f"{rest!r} begins with no quality")
        look, rest = replace(look, **draw_settings(QUALITIES[quality], rng)), rest.removeprefix(quality).strip()
    return look
