"""Extractors judged on real art: do they read the style, or what is shown?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.art.concepts import read_dictionary
from components.art.drawings import Drawing, aligned, read_family
from components.art.families import choose
from components.art.packages import needed, require
from components.art.raster import rasterize, require_resvg
from components.core.content import derive_seed
from components.core.errors import InputError
from components.evaluation.efficientnet import MODEL, NAMES, EfficientNetExtractor
from components.evaluation.features import Extractor, Towers
from components.evaluation.metrics import Bootstrap
from components.evaluation.style_reading import Reading, read_style_and_content

JUDGES = ("noto", "noto-v1", "twemoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", "emojione", "openmoji")
"""Families with the most concepts in common."""
EXTRACTORS = ("pocket", *NAMES)


@dataclass(frozen=True)
class MeasureOptions:
    """What extractors are judged on: families (None: ``JUDGES``), how many concepts, pixels a side, resamples and seed."""

    families: Sequence[str] | None = None
    concepts: int = 150
    side: int = 224
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Measures:
    """What came out: the families and concepts, and of each extractor its name and reading."""

    families: tuple[str, ...]
    concepts: tuple[str, ...]
    readings: tuple[tuple[str, Reading], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        readings = [{"extractor": name, **reading.as_dict()} for name, reading in self.readings]
        return {"families": list(self.families), "concepts": list(self.concepts), "extractors": readings}


def measure(names: Sequence[str], options: MeasureOptions, *, say: Callable[[str], None] = lambda _: None) -> Measures:
    """Render every concept by every family, and judge each extractor on these images.

    Args:
        names: ``efficientnet-lite0`` with or without a statistic, or a CLIP: ``pocket``, a folder or a hub id.
        options: the images.
        say: takes a line of progress.

    Raises:
        InputError: an extractor or a family that cannot be had, fewer than two families or concepts.
    """
    require_resvg()
    extractors = [make_extractor(name) for name in names]
    drawings = list(_drawings(options))
    say(f"rendering {len(drawings)} images")
    images = [rasterize(drawing, options.side) for drawing in drawings]
    artists = [drawing.family.name for drawing in drawings]
    concepts = [drawing.concept.name for drawing in drawings]
    bootstrap = Bootstrap(options.resamples, seed=options.seed)
    readings = []
    for extractor in extractors:
        say(f"encoding with {extractor.name}")
        readings.append((extractor.name, read_style_and_content(extractor.encode_images(images), artists, concepts, bootstrap)))
    return Measures(tuple(dict.fromkeys(artists)), tuple(dict.fromkeys(concepts)), tuple(readings))


def make_extractor(name: str) -> Extractor:
    """The extractor of this name.

    Raises:
        InputError: there is none, or a package that it needs is not installed.
        ServiceUnreachable: a hub id, and the hub does not answer.
    """
    return EfficientNetExtractor(name) if name.partition(":")[0] == MODEL else Towers(name)


def _drawings(options: MeasureOptions) -> Iterator[Drawing]:
    """Every chosen concept by every family."""
    families = choose(options.families, JUDGES)
    if len(families) < 2:
        raise InputError("--family", f"only {families[0].name}", expected="at least two families", remedy="name another one")
    require(needed(families))
    dictionary = read_dictionary()
    found = [read_family(family, dictionary) for family in families]
    names = aligned(found)
    if not 2 <= options.concepts <= len(names):
        problem = f"these families have {len(names)} concepts in common"
        raise InputError(f"--concepts {options.concepts}", problem, expected=f"2 to {len(names)}", remedy="take fewer, or other families")
    chosen = sorted(random.Random(derive_seed(options.seed, "art", "measures")).sample(names, options.concepts))
    return (drawings[name] for name in chosen for drawings in found)
