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
    """A limit that one score of a choice must keep to."""

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
    """How a checkpoint and a guidance scale are chosen after training, by pictures of a separate prompt bank."""

    candidates: PositiveInt = Field(
        1,
        le=64,
        description="Checkpoints to choose from, evenly spaced through the training, the last among them; 1: the last is taken.",
    )
    patience: PositiveInt | None = Field(
        None,
        description="End the training once the checkpoint that the rule would choose, at the configured guidance, is so many candidates "
        "old; none: train to the end. Each candidate is drawn and scored as it is made, and once more when one is chosen.",
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (),
        description="Further seeds to train with besides `seed`, one training after the other; checkpoints of all are chosen from.",
    )
    guidances: tuple[Annotated[float, Field(ge=1.0)], ...] = Field(
        (), description="Guidance scales to choose from besides `sampling.guidance`; none: that one is taken."
    )
    style_guidances: tuple[Annotated[float, Field(ge=1.0)], ...] = Field(
        (),
        description="Scales of the style alone to choose from besides the formula's, for a method that has one.",
    )
    choose: tuple[Literal["checkpoint", "guidance"], ...] = Field(
        ("checkpoint", "guidance"),
        description="What is chosen; what is left out stays the last checkpoint, or the configured scales. The training is the same.",
    )
    bank: str = Field(
        "builtin-selection", description="`builtin-selection`, `pocket-selection` (64 prompts each), or a file as of `sampling.bank`. It "
        "must share no prompt with `sampling.bank`: a choice looks better on the prompts that it was made by than it is.",
    )  # fmt: skip
    limit: PositiveInt | None = Field(None, description="Use only the first so many prompts of the bank.")
    repeats: PositiveInt = Field(1, description="Pictures a prompt.")
    score: ScoreName = Field(
        "kid",
        description="Score that decides, measured to StyleRef and never to the reference; the best wins among those inside the limits.",
    )
    clip_t_margin: Probability = Field(0.1, description="Share of the base's CLIP-T, on the same prompts, that a choice may lose.")
    limits: tuple[Limit, ...] = Field((), description="Further limits, such as `{metric: clip_i, at_least: 25}`.")
    confidence: float = Field(
        0.2, gt=0.0, lt=1.0,
        description="Level of the paired interval inside of which two choices tie: 0.2 is a quarter of a standard error, 0.68 a whole one. "
        "Of those that tie with the best the earlier checkpoint is taken, and the guidance nearer to `sampling.guidance`; the higher the "
        "level, the earlier, at the price of the score.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if self.patience is not None and self.patience + 1 >= self.candidates:
            raise ValueError(
                f"patience={self.patience} ends no training of {self.candidates} candidates: needs at least {self.patience + 2}"
            )
        if self.patience is not None and "checkpoint" not in self.choose:
            raise ValueError("patience needs `checkpoint` in `choose`: a training that ends early is one of which a checkpoint is chosen")
        return self

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose from."""
        return self.candidates > 1 or bool(self.seeds) or bool(self.guidances) or bool(self.style_guidances)
