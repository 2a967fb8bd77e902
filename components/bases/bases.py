"""The embedded bases: how each is trained and what it must reach. Cheap to import, since the command line reads it."""

from dataclasses import dataclass
from typing import Literal

from components.core.model_ref import EMBEDDED, Embedded

BaseName = Literal["pocket", "pocket-flow", "art"]


@dataclass(frozen=True)
class EmbeddedBase:
    """A base that is trained here.

    ``minutes`` lists its parts in order, each with its default time budget on two CPU cores: under 8 hours per base. ``origin`` is the
    base whose VAE the training starts from. ``checks`` are those that ``styleforge base check`` offers; ``bars`` are the percentages
    that its pictures must reach, and ``style_bars`` those of models that Single-StyleForge makes of it.
    """

    model: BaseName
    world: Literal["pocket", "art"]
    denoiser: str
    origin: BaseName | None
    minutes: dict[str, float]
    checks: tuple[str, ...]
    bars: dict[str, float]
    style_bars: dict[str, float]

    @property
    def weights(self) -> Embedded:
        """The names of its parts within the weights."""
        return EMBEDDED[self.model]


BASES: dict[BaseName, EmbeddedBase] = {
    "pocket": EmbeddedBase(
        "pocket",
        "pocket",
        "unet",
        None,
        {"vae": 75.0, "evaluator": 90.0, "unet": 240.0, "decoder": 45.0, "probe": 15.0},
        ("vae", "evaluator", "unet", "styles"),
        {"background": 97, "subject": 92},
        {"style": 70, "background": 80, "subject": 75},
    ),
    "pocket-flow": EmbeddedBase(
        "pocket-flow",
        "pocket",
        "transformer",
        "pocket",
        {"vae": 15.0, "transformer": 90.0, "decoder": 15.0},
        ("vae", "transformer", "styles"),
        {"background": 95, "subject": 88},
        {"style": 65, "background": 80, "subject": 75},
    ),
    "art": EmbeddedBase(
        "art",
        "art",
        "transformer",
        "pocket-flow",
        {"vae": 15.0, "evaluator": 30.0, "text": 5.0, "transformer": 150.0, "decoder": 15.0, "probe": 20.0},
        ("vae", "evaluator", "transformer", "styles"),
        {"family": 90, "concept": 60, "concept in five": 85},
        {"style": 65, "concept in five": 65},
    ),
}
