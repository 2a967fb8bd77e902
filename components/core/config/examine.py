"""The section about the verdict on the data."""

from pydantic import Field, field_validator

from components.core.config.section import Probability, Section


class ExamineSection(Section):
    """The verdict on the data before training: can this style set be learned, and with this base?"""

    enabled: bool = Field(True, description="Examine the set in each run and in `styleforge validate`. Cells of a comparison never do.")
    hard: bool = Field(False, description="Do not train if a figure misses its threshold; otherwise it is only a warning.")
    pictures: int = Field(
        20, ge=4, description="Maximum number of StyleRef images to examine, and of images that the base generates; evenly spaced."
    )
    prompt: str = Field(
        "{caption}",
        description="Prompt for the base; `{caption}` is the image's caption. `an oil painting of {caption}` tests whether the base "
        "already draws the style under that name.",
    )
    coherence: Probability = Field(0.5, description="Minimum probability, 0 to 1, that the images are of one style.")
    outlier: float = Field(
        5.0, gt=0, description="Distance from the other images above which one is named, in robust standard deviations of the set."
    )
    separability: Probability = Field(
        0.95, description="Minimum rate, 0.5 to 1, at which StyleRef can be told from the base's images; below it there is little to learn."
    )
    narrowness: float = Field(
        0.2, ge=0, le=2, description="Minimum mean distance (1 − cosine) between two images of a role; below it, they all show one scene."
    )
    ceiling: float = Field(22.0, ge=0, description="Minimum PSNR, in dB, of the set's median image after the base's VAE.")

    @field_validator("prompt")
    @classmethod
    def _holds_the_caption(cls, value: str) -> str:
        if "{caption}" not in value:
            raise ValueError("must contain {caption}")
        return value
