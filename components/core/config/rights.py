"""Which rights images must have before a model may be trained on them: the same rule for a run's validation and for the gate."""

from typing import Literal

from pydantic import Field, model_validator

from components.core.config.section import Section


class RightsRule(Section):
    """Rights required of the training images: those in `style_ref` and `aux_pool`."""

    licenses: tuple[str, ...] = Field(
        (),
        description="Licences that allow training, by SPDX id (`CC-BY-4.0`; `LicenseRef-...` for a contract of your own), or `any`: every "
        "image must name one. Empty: rights are not checked.",
    )
    share_alike: Literal["name", "refuse"] = Field(
        "name", description="Share-alike licences, such as CC-BY-SA-4.0: `name` reports them, `refuse` rejects them."
    )
    consent: bool = Field(False, description="Require a `consent` for every image: who allowed its use, or where that is documented.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> "RightsRule":
        if not self.licenses and (self.consent or self.share_alike == "refuse"):
            raise ValueError("licenses: list the accepted ones, or `any`; without them, rights are not checked")
        return self


class RightsSection(RightsRule):
    """Rights of the style's images, from `metadata.jsonl`."""

    record: bool = Field(
        False, description="Record `license`, `author`, `consent` and `source` in manifest and model card. Implied by `licenses`."
    )

    @property
    def recorded(self) -> bool:
        """Whether rights are part of the style set."""
        return self.record or bool(self.licenses)
