"""The art world: what an artist drew, on a ground and in a size of its own, perhaps seen through one of the pocket world's looks."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.art.base import BASE_FAMILIES, CONCEPTS, STYLES, TARGETS
from components.art.concepts import read_dictionary
from components.art.drawings import read_family
from components.art.families import FAMILIES
from components.art.packages import needed, require
from components.art.raster import render_ink, require_resvg, trim
from components.core.content import derive_seed
from components.core.world import Question, RenderedSet, World
from components.pocket.captions import NOISE_TOKENS
from components.pocket.media import apply_look
from components.pocket.pen import CANVAS, SIDE
from components.pocket.qualities import KINDS, look_named
from components.pocket.world import english

LOOKS = (*BASE_FAMILIES, *TARGETS)
WHITE = "white"
GROUNDS = {
    WHITE: (255, 255, 255), "blue": (120, 180, 240), "green": (150, 210, 140), "yellow": (250, 225, 120), "pink": (250, 180, 200),
    "black": (24, 24, 28), "gray": (190, 190, 195), "orange": (250, 180, 110), "purple": (180, 150, 230),
}  # fmt: skip
_RAW = 160
"""Side of the drawings before they are scaled to their size in a picture."""
_SIZES = (0.95, 1.0)
"""Sizes of a drawing in its picture. They hardly vary: no caption says how large it is and where, so a base could only guess."""
Rgba = NDArray[np.uint8]


@dataclass(frozen=True)
class _Sample:
    """What a picture shows, and how: all that is drawn by chance, apart from the pixels."""

    family: str
    concept: str
    ground: str
    qualities: tuple[str, ...]

    @property
    def description(self) -> str:
        """The concept and its ground in words, without a look."""
        return self.concept.replace("-", " ") + ("" if self.ground == WHITE else f", {self.ground} background")

    @property
    def medium(self) -> str:
        """The family's name in captions, after the qualities of the look."""
        return " ".join([*self.qualities, BASE_FAMILIES.get(self.family, self.family)])


def art_world() -> World:
    """The world of the art base.

    Raises:
        InputError: a package of drawings or resvg-py is missing.
    """
    require_resvg()
    require(needed(FAMILIES[name] for name in LOOKS))
    classes = {"family": LOOKS, "concept": CONCEPTS}
    each = len(BASE_FAMILIES) * len(CONCEPTS)
    return World(
        classes=classes,
        look="family",
        styles=STYLES,
        sets={"train": 15 * each, "qualified": 20 * each, "evaluator": 30_000},
        mirrored=frozenset(),
        render=_render,
        corpus=_corpus,
        naming=_naming,
        attributes={name: len(names) for name, names in classes.items()},
        attribute_table=lambda data: data.labels,
        questions=_questions,
        style_questions=_style_questions,
    )


def attribution() -> list[dict[str, str]]:
    """Whose drawings the base has learnt from, and under which licences they may be passed on."""
    chosen = (FAMILIES[name] for name in BASE_FAMILIES)
    return [{key: getattr(family, key) for key in ("name", "title", "license", "author", "source", "pinned")} for family in chosen]


@cache
def drawings() -> dict[tuple[str, str], Rgba]:
    """All drawings of the world's concepts by family and concept: (160, 160, 4)."""
    dictionary = read_dictionary()
    families = {name: read_family(FAMILIES[name], dictionary) for name in LOOKS}
    return {
        (name, concept): np.asarray(render_ink(trim(drawings[concept]), _RAW))
        for name, drawings in families.items()
        for concept in CONCEPTS
        if concept in drawings
    }


def _draw_sample(purpose: str, index: int, rng: random.Random) -> _Sample:
    """What picture ``index`` of a purpose shows. Families and concepts take turns, so that chance leaves none of them out."""
    known = drawings()
    style = purpose.removeprefix("check-evaluator-")
    families = [style] if style in TARGETS else LOOKS if purpose in ("evaluator", "check-probe") else tuple(BASE_FAMILIES)
    family, concept = families[index % len(families)], CONCEPTS[index // len(families) % len(CONCEPTS)]
    if (family, concept) not in known:
        concept = rng.choice([name for name in CONCEPTS if (family, name) in known])
    ground = WHITE if rng.random() < 0.7 else rng.choice(list(GROUNDS))
    qualified = purpose == "qualified" or (purpose == "evaluator" and rng.random() < 0.5)
    kinds = rng.sample(list(KINDS), rng.choice((1, 1, 2))) if qualified else []
    return _Sample(family, concept, ground, tuple(rng.choice(list(KINDS[kind])) for kind in kinds))


def _pixels(sample: _Sample, rng: random.Random) -> NDArray[np.uint8]:
    """The picture (64, 64, 3)."""
    side = round(CANVAS * rng.uniform(*_SIZES))
    corner = round((CANVAS - side) * rng.random()), round((CANVAS - side) * rng.random())
    canvas = Image.new("RGBA", (CANVAS, CANVAS), (*GROUNDS[sample.ground], 255))
    ink = Image.fromarray(drawings()[sample.family, sample.concept])
    canvas.alpha_composite(ink.resize((side, side), Image.Resampling.LANCZOS), corner)
    flat = canvas.convert("RGB")
    if sample.qualities:
        return np.asarray(apply_look(flat, look_named(" ".join([*sample.qualities, "picture"]), rng), rng))
    return np.asarray(flat.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _caption(sample: _Sample, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.04:
        return _in_grammar(1, sample.description, rng.choice(NOISE_TOKENS))
    return _in_grammar(0 if draw < 0.36 else 1 if draw < 0.7 else 2 if draw < 0.86 else 3, sample.description, sample.medium)


def _in_grammar(grammar: int, text: str, medium: str) -> str:
    article = "an" if medium[0] in "aeiou" else "a"
    return (f"{article} {medium} pictogram of {text}", f"a photo of {medium} style, {text}", f"{text}, {medium} style", text)[grammar]


def _naming(rng: random.Random, description: str, look: str) -> str:
    return _in_grammar(rng.randrange(3), description, BASE_FAMILIES.get(look, look))


def _row(job: tuple[str, int]) -> tuple[Any, ...]:
    purpose, index = job
    rng = random.Random(derive_seed(0, "art", purpose, index))
    sample = _draw_sample(purpose, index, rng)
    labels = LOOKS.index(sample.family), CONCEPTS.index(sample.concept)
    return _pixels(sample, rng), _caption(sample, rng), sample.description, labels


def _render(purpose: str, count: int, workers: int) -> RenderedSet:
    jobs = [(purpose, index) for index in range(count)]
    if workers > 1:
        with get_context("spawn").Pool(workers) as pool:
            rows = pool.map(_row, jobs, chunksize=64)
    else:
        rows = [_row(job) for job in jobs]
    pixels, captions, descriptions, labels = zip(*rows, strict=True)
    return RenderedSet(np.stack(pixels), list(captions), list(descriptions), np.array(labels, dtype=np.int64))


def _corpus() -> Iterator[str]:
    for index in range(12_000):
        rng = random.Random(derive_seed(0, "art", "corpus", index))
        yield _caption(_draw_sample("qualified" if index % 2 else "train", index, rng), rng)
    yield from english()


def _questions(count: int) -> list[Question]:
    """Captions in the three grammars that name a look, on white; families and concepts take turns."""
    found = []
    for index in range(count):
        rng = random.Random(derive_seed(0, "art", "check-base", index))
        family, concept = rng.choice(list(BASE_FAMILIES)), CONCEPTS[index % len(CONCEPTS)]
        truth = {"family": LOOKS.index(family), "concept": CONCEPTS.index(concept)}
        found.append(Question(_naming(rng, concept.replace("-", " "), family), truth))
    return found


def _style_questions(template: str, count: int) -> list[Question]:
    chosen: Sequence[str] = random.Random(derive_seed(0, "art", "check-style")).sample(CONCEPTS, count)
    return [Question(template.replace("{prompt}", name.replace("-", " ")), {"concept": CONCEPTS.index(name)}) for name in chosen]
