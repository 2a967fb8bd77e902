"""Which rights images must have before a model may be trained on them: the same rule for a run's validation and for the gate."""

from typing import Literal

from pydantic import Field, model_validator

from components.core.config.section import Section


class RightsRule(Section):
    """Rights required of the images that a model is trained on: those in `style_ref` and in `aux_pool`."""

    licenses: tuple[str, ...] = Field(
        (),
        description="Licences that may train, by SPDX id (`CC-BY-4.0`; `LicenseRef-...` for a contract of your own), or `any`: every image "
        "names one. Empty: rights are not asked for.",
    )
    share_alike: Literal["name", "refuse"] = Field(
        "name", description="Licences that ask for the same licence again, such as CC-BY-SA-4.0: name them as such, or refuse them."
    )
    consent: bool = Field(False, description="Whether every image needs a `consent`: who has allowed it, or where that is written down.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> "RightsRule":
        if not self.licenses and (self.consent or self.share_alike == "refuse"):
            raise ValueError("licenses: name those that may train, or `any`; without them rights are not asked for")
        return self


class RightsSection(RightsRule):
    """Rights of the style's images, from `metadata.jsonl`."""

    record: bool = Field(
        False, description="Carry `license`, `author`, `consent` and `source` into manifest and model card. `licenses` implies it."
    )

    @property
    def recorded(self) -> bool:
        """Whether rights are part of the style set."""
        return self.record or bool(self.licenses)
