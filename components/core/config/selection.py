"""The section on what is chosen after training: a checkpoint and a guidance scale."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from components.core.config.section import PositiveInt, Probability, Section
from components.core.metrics import SCORES

if TYPE_CHECKING:
    ScoreName = str
else:
    ScoreName = Literal[SCORES]


class Limit(Section):
    """A limit on one score of a candidate."""

    metric: ScoreName = Field(description="The score.")
    at_most: float | None = Field(None, description="Largest value.")
    at_least: float | None = Field(None, description="Smallest value; either this or `at_most`.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("must have either at_most or at_least")
        return self

    def excess(self, value: float) -> float:
        """How far a value is outside the limit, as a share of the limit; 0 or less inside."""
        limit = self.at_most if self.at_most is not None else self.at_least
        assert limit is not None
        return (value - limit if self.at_most is not None else limit - value) / max(abs(limit), 1e-12)


class SelectionSection(Section):
    """Choice among checkpoints and guidance scales, by images of a separate prompt bank."""

    candidates: PositiveInt = Field(
        1,
        le=64,
        description="Checkpoints to choose from, evenly spaced through the training, including the last; 1: use the last.",
    )
    patience: PositiveInt | None = Field(
        None,
        description="Early stopping: end the training once the checkpoint that would be chosen at the configured guidance is this many "
        "candidates old; null: train to the end. Each candidate is sampled and scored when it is saved, and again for the choice.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (),
        description="Seeds of further trainings besides `seed`, one after the other. Checkpoints of all trainings are candidates.",
    )
    guidances: tuple[Annotated[float, Field(ge=1.0)], ...] = Field(
        (), description="Guidance scales to choose from besides `sampling.guidance`; none: use that one."
    )
    style_guidances: tuple[Annotated[float, Field(ge=1.0)], ...] = Field(
        (),
        description="Style scales to choose from besides the formula's, for methods with a separate one.",
    )
    choose: tuple[Literal["checkpoint", "guidance"], ...] = Field(
        ("checkpoint", "guidance"),
        description="What to choose. Without `checkpoint` the last one is used, without `guidance` the configured scales. Does not "
        "affect the training.",
    )
    bank: str = Field(
        "builtin-selection",
        description="`builtin-selection`, `pocket-selection`, `art-selection` (64 prompts each), or a file as in `sampling.bank`. "
        "Must share no prompt with `sampling.bank`: scores on the prompts used for choosing are too optimistic.",
    )  # fmt: skip
    limit: PositiveInt | None = Field(None, description="Use only this many prompts, from the start of the bank.")
    repeats: PositiveInt = Field(1, description="Images per prompt.")
    score: ScoreName = Field(
        "kid",
        description="Deciding score, measured against StyleRef and never against the reference. The best candidate within the limits wins.",
    )
    clip_t_margin: Probability = Field(0.1, description="Share of the base's CLIP-T, on the same prompts, that a candidate may lose.")
    limits: tuple[Limit, ...] = Field((), description="Further limits, such as `{metric: clip_i, at_least: 25}`.")
    confidence: float = Field(
        0.2, gt=0.0, lt=1.0,
        description="Level of the paired interval within which two candidates tie: 0.2 is a quarter of a standard error, 0.68 a whole one. "
        "Among those that tie with the best, the earliest checkpoint and the guidance closest to `sampling.guidance` win. A higher level "
        "favours earlier checkpoints, at the price of the score.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if self.patience is not None and self.patience + 1 >= self.candidates:
            raise ValueError(
                f"patience={self.patience} never ends a training of {self.candidates} candidates; it takes at least {self.patience + 2}"
            )
        if self.patience is not None and "checkpoint" not in self.choose:
            raise ValueError("patience needs `checkpoint` in `choose`: early stopping depends on choosing a checkpoint")
        if self.seeds and "checkpoint" not in self.choose:
            raise ValueError("seeds needs `checkpoint` in `choose`: without it, only the first training's last checkpoint is used")
        return self

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that decide, apart from CLIP-T."""
        return tuple(dict.fromkeys([self.score, *(limit.metric for limit in self.limits)]))

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose from."""
        return self.candidates > 1 or bool(self.seeds) or bool(self.guidances) or bool(self.style_guidances)
