"""The pocket world as what a base is trained on: its sets, labels and questions."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from components.core.content import derive_seed
from components.core.world import Question, RenderedSet, World
from components.pocket.captions import RARE_TOKENS, caption, describe, in_grammar
from components.pocket.media import MEDIA, STYLES, random_medium
from components.pocket.render import LOOKS, QUALIFIED, render_set
from components.pocket.scenes import BACKGROUNDS, COLOURS, HAIR, SUBJECTS, Scene, random_scene

_ENGLISH = (
    "a painting of an old house near the sea with a small garden, portrait of a person reading a book in the evening light, "
    "close up of a face, wide landscape with hills and a river, digital art, concept art, drawing, picture, image, style, "
    "anime, romanticism, cubism, realism, pixel art, drawn by hand in bright colours, dark and moody, highly detailed, "
    "people walking in the street, children playing, animals, birds, flowers, trees, clouds, sun, moon, stars, rain, winter, summer"
)
_MEDIA = {"qualified": (QUALIFIED,), "evaluator": LOOKS, "check-probe": LOOKS, **{f"check-evaluator-{style}": (style,) for style in STYLES}}
"""Media by purpose; for other purposes each picture's medium is drawn."""
ATTRIBUTES = {
    "background": len(BACKGROUNDS), "subject": len(SUBJECTS), "look": len(LOOKS), "hair": len(HAIR), "clothes": len(COLOURS),
    "hat": 1 + len(COLOURS), "full": 2, "colour": len(COLOURS),
}  # fmt: skip


def _render(purpose: str, count: int, workers: int) -> RenderedSet:
    return render_set(purpose, count, _MEDIA.get(purpose), workers)


def english() -> Iterator[str]:
    """A little English, and the rare words, often enough that each of them is merged into one token."""
    for _ in range(50):
        yield _ENGLISH
        yield " ".join(RARE_TOKENS)


def _corpus() -> Iterator[str]:
    rng = random.Random(7)
    for _ in range(4000):
        yield caption(random_scene(rng), random_medium(rng), rng)
    yield from english()


def _naming(rng: random.Random, description: str, look: str) -> str:
    return in_grammar(rng.randrange(3), description, look)


def attribute_table(data: RenderedSet) -> NDArray[np.int64]:
    """Class indices (N, 8) in the order of ATTRIBUTES; -100 where an attribute does not apply."""
    table = np.full((len(data.labels), len(ATTRIBUTES)), -100, dtype=np.int64)
    table[:, :3] = data.labels
    colours, hair = list(COLOURS), list(HAIR)
    for row, text in zip(table, data.descriptions, strict=True):
        words = text.replace(",", "").split()
        if row[1] < 4:
            row[3] = hair.index(words[words.index("hair") - 1])
            garment = words.index("dress") if "dress" in words else words.index("shirt")
            row[4] = colours.index(words[garment - 1])
            row[5] = 1 + colours.index(words[words.index("hat") - 1]) if "hat" in words else 0
            row[6] = int("full body" in text)
        elif row[1] < 12:
            row[7] = colours.index(words[1])
    return table


def _questions(count: int) -> list[Question]:
    """Captions in every grammar, in the base's media."""
    streams = [random.Random(derive_seed(0, "pocket", "check-unet", index)) for index in range(count)]
    scenes = [(random_scene(rng), rng.choice(list(MEDIA))) for rng in streams]
    return [Question(in_grammar(index % 4, describe(scene), medium), _truth(scene)) for index, (scene, medium) in enumerate(scenes)]


def _style_questions(template: str, count: int) -> list[Question]:
    scenes = [random_scene(random.Random(derive_seed(0, "pocket", "check-style", index))) for index in range(count)]
    return [Question(template.replace("{prompt}", describe(scene)), _truth(scene)) for scene in scenes]


def _truth(scene: Scene) -> dict[str, int]:
    return {"background": BACKGROUNDS.index(scene.background), "subject": SUBJECTS.index(scene.subject)}


POCKET = World(
    classes={"background": BACKGROUNDS, "subject": SUBJECTS, "look": LOOKS},
    look="look",
    styles=tuple(STYLES),
    sets={"train": 40_000, "qualified": 40_000, "evaluator": 27_000},
    # Looks in words name the side that the light comes from.
    mirrored=frozenset({"train"}),
    render=_render,
    corpus=_corpus,
    naming=_naming,
    attributes=ATTRIBUTES,
    attribute_table=attribute_table,
    questions=_questions,
    style_questions=_style_questions,
)
