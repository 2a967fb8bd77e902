"""Judges whether extractors read the style of an image or its content."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.art.concepts import read_dictionary
from components.art.drawings import Drawing, aligned, read_family
from components.art.families import choose
from components.art.packages import needed, require
from components.art.raster import rasterize, require_resvg, trim
from components.core.content import derive_seed
from components.core.errors import InputError
from components.core.suggest import did_you_mean
from components.evaluation.extractors.base import Extractor, Features
from components.evaluation.extractors.efficientnet import NAMES, EfficientNetExtractor, encode_together
from components.evaluation.extractors.factory import make_extractor
from components.evaluation.metrics import Bootstrap
from components.evaluation.style_reading import Reading, read_style_and_content

if TYPE_CHECKING:
    from PIL.Image import Image

JUDGES = ("noto", "noto-v1", "twemoji", "fluent-emoji-flat", "fluent-emoji-high-contrast", "emojione", "openmoji")
"""The families that have the most concepts in common."""
EXTRACTORS = ("colours", "texture", "look", "pocket", *NAMES)


@dataclass(frozen=True)
class MeasureOptions:
    """What to judge extractors on: families (None: ``JUDGES``), number of concepts, side in pixels, resamples and seed.

    In the ``pocket`` world, families are looks (None: all media and styles), concepts are scenes, and images are 64 pixels a side.
    """

    families: Sequence[str] | None = None
    concepts: int = 150
    side: int = 224
    resamples: int = 1000
    seed: int = 0
    world: Literal["art", "pocket"] = "art"


@dataclass(frozen=True)
class Measures:
    """The result: the families and concepts used, and the name and reading of each extractor."""

    families: tuple[str, ...]
    concepts: tuple[str, ...]
    readings: tuple[tuple[str, Reading], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        readings = [{"extractor": name, **reading.as_dict()} for name, reading in self.readings]
        return {"families": list(self.families), "concepts": list(self.concepts), "extractors": readings}


def measure(names: Sequence[str], options: MeasureOptions, *, say: Callable[[str], None] = lambda _: None) -> Measures:
    """Render every concept in every family, each image trimmed to its ink, and judge each extractor on these images.

    Args:
        names: extractor names, as accepted by :func:`components.evaluation.extractors.factory.make_extractor`.
        options: which images to render.
        say: called with each line of progress.

    Raises:
        InputError: an extractor or family is not available, or there are fewer than two families or concepts.
        ServiceUnreachable: an extractor is on the hub, and the hub does not answer.
    """
    extractors = [make_extractor(name, "EXTRACTOR") for name in names]
    artists, concepts, images = (_of_the_pocket_world if options.world == "pocket" else _of_art)(options, say)
    bootstrap = Bootstrap(options.resamples, seed=options.seed)
    readings = [
        (extractor.name, read_style_and_content(features, artists, concepts, bootstrap))
        for extractor, features in zip(extractors, _encode(extractors, images, say), strict=True)
    ]
    return Measures(tuple(dict.fromkeys(artists)), tuple(dict.fromkeys(concepts)), tuple(readings))


def _of_art(options: MeasureOptions, say: Callable[[str], None]) -> tuple[list[str], list[str], list[Image]]:
    """Return the artist, concept and image of each drawing."""
    require_resvg()
    drawings = list(_drawings(options))
    say(f"rendering {len(drawings)} images")
    images = [rasterize(trim(drawing), options.side) for drawing in drawings]
    return [drawing.family.name for drawing in drawings], [drawing.concept.name for drawing in drawings], images


def _of_the_pocket_world(options: MeasureOptions, say: Callable[[str], None]) -> tuple[list[str], list[str], list[Image]]:
    """Return looks, scenes and images; each look places and colours a scene in its own way, as a different artist would."""
    from components.pocket.media import MEDIA, STYLES
    from components.pocket.render import render
    from components.pocket.scenes import random_scene

    known = (*STYLES, *MEDIA)
    looks = list(options.families or known)
    for look in looks:
        if look not in known:
            raise InputError(f"--family {look}", f"no look of the pocket world{did_you_mean(look, known)}", expected=", ".join(known))
    if len(looks) < 2:
        raise InputError("--family", f"only {looks[0]}", expected="at least two looks", remedy="name another one")
    scenes = [random_scene(random.Random(derive_seed(options.seed, "measures", number))) for number in range(options.concepts)]
    say(f"rendering {len(scenes) * len(looks)} images")
    drawn = [(look, f"scene {number}", scene) for number, scene in enumerate(scenes) for look in looks]
    images = [render(derive_seed(options.seed, "measures", look, name), look, scene=scene).image for look, name, scene in drawn]
    return [look for look, _, _ in drawn], [name for _, name, _ in drawn], images


def _encode(extractors: Sequence[Extractor], images: Sequence[Image], say: Callable[[str], None]) -> Iterator[Features]:
    """Yield the features of each extractor; the EfficientNet layers share one pass."""
    layers = [extractor for extractor in extractors if isinstance(extractor, EfficientNetExtractor)]
    together: dict[int, Features] = {}
    for extractor in extractors:
        if not isinstance(extractor, EfficientNetExtractor):
            say(f"encoding with {extractor.name}")
            yield extractor.encode_images(images)
            continue
        if not together:
            say(f"encoding with {', '.join(layer.name for layer in layers)}")
            together = {id(layer): features for layer, features in zip(layers, encode_together(layers, images), strict=True)}
        yield together[id(extractor)]


def _drawings(options: MeasureOptions) -> Iterator[Drawing]:
    """Return every chosen concept as drawn by every family."""
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
