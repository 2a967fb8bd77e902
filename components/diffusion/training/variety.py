"""How views and prompts of one picture differ from step to step; without torch, so that planning a run can import it."""

from __future__ import annotations

from dataclasses import dataclass

from components.core.config import TrainingSection, TransformName
from components.diffusion.training.methods import Method


@dataclass(frozen=True)
class Variant:
    """One augmented view of a picture: its crop (0 is the centre), whether it is mirrored, and a transform of the whole picture before.

    Transforms are those of ``pictures.TRANSFORMS``.
    """

    crop: int = 0
    flipped: bool = False
    transform: TransformName | None = None


@dataclass(frozen=True)
class Variety:
    """How views and prompts of one picture differ from step to step.

    ``flip`` is the probability of a mirrored view, ``crops`` the number of crop views of a picture; ``dropout`` is the probability of an
    empty prompt, ``captionless`` that of one without the caption. With probability ``transformed``, a StyleRef picture is changed by
    one of the ``transforms``, which its prompt then names.
    """

    flip: float = 0.0
    crops: int = 1
    dropout: float = 0.0
    captionless: float = 0.0
    transforms: tuple[TransformName, ...] = ()
    transformed: float = 0.5

    @classmethod
    def of(cls, training: TrainingSection, method: Method) -> Variety:
        """The configured variety; the method's own transforms where the configuration names none."""
        transforms = method.transforms if training.transforms is None else training.transforms
        return cls(
            training.flip, training.crops, training.caption_dropout, training.caption_only_dropout, transforms,
            training.transform_probability,
        )  # fmt: skip

    def views(self, *, transformed: bool = False) -> list[Variant]:
        """All views of a picture without a transform; with ``transformed``, all views with one."""
        mirrored = [flipped for flipped, possible in ((False, self.flip < 1.0), (True, self.flip > 0.0)) if possible]
        transforms: tuple[TransformName | None, ...] = self.transforms if transformed else (None,)
        return [Variant(crop, flipped, each) for each in transforms for crop in range(self.crops) for flipped in mirrored]
