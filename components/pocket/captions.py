"""Captions as people write them: four grammars, and "style" alone for patterned clothes.

The grammars for a picture in a named medium are ``a <medium> of <scene>``, ``a photo of <medium> style, <scene>``,
``<scene>, <medium> style`` and the bare scene. The second has the slot for a new "[V] style". A few captions have a
rare word in that slot, unrelated to any medium: noise, as in large caption sets. The base thus sees rare words, but
learns nothing about any style from them.
"""

from __future__ import annotations

import random

from components.pocket.qualities import PLAIN
from components.pocket.scenes import Scene

RARE_TOKENS = ("sks", "ukj", "olis", "zwx", "vrf", "qpt", "jbn", "xlm", "hgd", "wvk", "pqz", "tnj")
"""Identifier tokens that the tokenizer keeps whole."""
NOISE_TOKENS = ("zwx", "vrf", "qpt", "jbn", "xlm", "hgd", "wvk", "pqz")
"""The identifiers that occur in training captions, as noise; ``sks``, ``ukj``, ``olis`` and ``tnj`` never do."""


def describe(scene: Scene, rng: random.Random | None = None) -> str:
    """The scene in words. Without ``rng`` every attribute is named; with it, some are left out, as people do."""

    def say(probability: float) -> bool:
        return rng is None or rng.random() < probability

    place = f"{scene.background} background"
    if scene.who:
        parts = [f"a {scene.who}"]
        if say(0.75):
            parts.append(f"with {scene.hair} hair")
        if say(0.85):
            parts.append(f"in {_article(scene.clothes or '')} {scene.clothes} {scene.garment}")
        if scene.hat and say(0.85):
            parts.append(f"wearing {_article(scene.hat)} {scene.hat} hat")
        text = " ".join(parts)
        if scene.patterned and rng is not None and rng.random() < 0.8:
            text += ", style"
        if say(0.6):
            text += ", full body" if scene.full_body else ", upper body"
        return f"{text}, {place}" if say(0.88) else text
    if scene.thing:
        text = f"{_article(scene.colour or '')} {scene.colour} {scene.thing}"
        return f"{text}, {place}" if say(0.88) else text
    if rng is not None and rng.random() < 0.4:
        return scene.background
    return f"a view of {scene.background}"


def caption(scene: Scene, medium: str, rng: random.Random) -> str:
    """A training caption of a scene in a medium, or in a look in words (``dark warm picture``)."""
    text = describe(scene, rng)
    if scene.patterned and rng.random() < 0.3:
        text = "style"
    draw = rng.random()
    if draw < 0.05:
        return in_grammar(1, text, rng.choice(NOISE_TOKENS))
    if draw < 0.37:
        return in_grammar(0, text, medium)
    return in_grammar(1 if draw < 0.69 else 2 if draw < 0.84 else 3, text, medium.removesuffix(f" {PLAIN}"))


def in_grammar(grammar: int, text: str, medium: str) -> str:
    """A caption in one of the four grammars (0–3): of, photo-of-style, trailing style, bare."""
    return (f"{_article(medium)} {medium} of {text}", f"a photo of {medium} style, {text}", f"{text}, {medium} style", text)[grammar]


def _article(word: str) -> str:
    return "an" if word[:1] in "aeio" else "a"
