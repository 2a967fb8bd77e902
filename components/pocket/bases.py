"""The two pocket bases: how each is trained and what it must reach. Cheap to import, since the command line reads it."""

from dataclasses import dataclass
from typing import Literal

from components.core.model_ref import POCKET_BASES

BaseName = Literal["unet", "flow"]


@dataclass(frozen=True)
class PocketBase:
    """A base that is trained here.

    ``minutes`` lists its parts in order, each with its default time budget on two CPU cores: under 8 hours per base.
    ``checks`` are the checks that ``styleforge pocket check`` offers; ``bars`` are the percentages that its pictures must reach.
    """

    model: str
    denoiser: str
    minutes: dict[str, float]
    checks: tuple[str, ...]
    bars: dict[str, float]

    @property
    def folder(self) -> str:
        """The base's folder within the weights."""
        return POCKET_BASES[self.model]


BASES: dict[BaseName, PocketBase] = {
    "unet": PocketBase(
        "pocket",
        "unet",
        {"vae": 75.0, "evaluator": 90.0, "unet": 240.0, "decoder": 45.0, "probe": 15.0},
        ("vae", "evaluator", "unet", "styles"),
        {"background": 97, "subject": 92, "style": 70},
    ),
    "flow": PocketBase(
        "pocket-flow",
        "transformer",
        {"vae": 15.0, "transformer": 90.0, "decoder": 15.0},
        ("vae", "transformer", "styles"),
        {"background": 95, "subject": 88, "style": 65},
    ),
}
