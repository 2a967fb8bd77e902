"""The section about the verdict on the data."""

from pydantic import Field, field_validator

from components.core.config.section import Probability, Section


class ExamineSection(Section):
    """The verdict on the data before anything is trained: can this style set be learned, and from this base?"""

    enabled: bool = Field(True, description="Examine the set in each run and in `styleforge validate`; the cells of a comparison do not.")
    hard: bool = Field(False, description="Refuse to train on a set that a figure speaks against; otherwise figures only warn.")
    pictures: int = Field(20, ge=4, description="Most StyleRef pictures that are looked at, and that the base draws; evenly spaced.")
    prompt: str = Field(
        "{caption}",
        description="What the base is to draw for a picture; `{caption}` is the picture's caption. `an oil painting of {caption}` asks "
        "whether the base draws the style already by that name.",
    )
    coherence: Probability = Field(0.5, description="Lowest probability, 0 to 1, that the pictures are of one style.")
    outlier: float = Field(
        5.0, gt=0, description="Distance from the other pictures at which one is named, in robust standard deviations of the set."
    )
    separability: Probability = Field(
        0.95, description="Lowest rate, 0.5 to 1, at which StyleRef is told from what the base draws; below it there is little to learn."
    )
    narrowness: float = Field(
        0.2, ge=0, le=2, description="Lowest mean distance (1 − cosine) between two pictures of a role; below it they show one scene."
    )
    ceiling: float = Field(22.0, ge=0, description="Lowest PSNR, in dB, of the set's median picture after the base's VAE.")

    @field_validator("prompt")
    @classmethod
    def _holds_the_caption(cls, value: str) -> str:
        if "{caption}" not in value:
            raise ValueError("must hold {caption}")
        return value
