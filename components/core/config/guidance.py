"""Guidance as data: the predictions made at each denoising step, and how they are combined into one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from components.core.config.section import Probability, Section
from components.core.suggest import did_you_mean

PROMPT, NEGATIVE = "prompt", "negative"
BUILT_IN = {PROMPT: "the whole prompt", NEGATIVE: "`sampling.negative_prompt`"}
"""Branches that every formula has, with their prompts; both use the model's own weights."""
SCALES = {"guidance": 0.0, "guidance - 1": -1.0, "style_guidance": 0.0, "style_guidance - 1": -1.0}
"""Scales by name, and what each adds to `sampling.guidance` or to the formula's own `style_guidance`."""


class BranchSection(Section):
    """A prompt, and the weights that predict the noise for it."""

    prompt: str = Field(
        description="The branch's prompt. `{token}` is the identifier, `{negative}` the negative token if the method learns one, "
        "`{prompt}` the bank's text, `{full_prompt}` the image's whole prompt, `{full_negative}` the same with the negative token as "
        "identifier."
    )
    weights: Literal["tuned", "base"] = Field(
        "tuned", description="Weights for the prediction: the model's own (`tuned`) or its base's (`base`)."
    )


class TermSection(Section):
    """A step from one branch's prediction towards another's."""

    scale: float | str = Field(
        description="Length of the step: a number, `guidance` (`sampling.guidance`), `style_guidance` (the formula's second scale), or "
        "one of them minus 1 (`guidance - 1`). 1 goes all the way."
    )
    away_from: str = Field(description="Branch from which the step leads away.")
    toward: str = Field(description="Branch towards which the step leads.")
    log_snr: tuple[float | None, float | None] | None = Field(
        None,
        description="Range of log SNR in which the term applies, upper end excluded; null: no bound on that side. Default: everywhere.",
    )
    steps: tuple[Probability, Probability] | None = Field(
        None,
        description="Range of the denoising steps, as shares, in which the term applies: `[0, 0.4]` is the noisiest two fifths. "
        "Default: all.",
    )
    centred_below: float | None = Field(
        None,
        description="Log SNR below which each channel's mean is removed from the difference, so that brightness stays as learned.",
    )

    @field_validator("scale")
    @classmethod
    def _number_or_name(cls, value: float | str) -> float | str:
        if value not in SCALES and (isinstance(value, str) or not abs(value) < float("inf")):
            raise ValueError(f"must be a number or one of {', '.join(f'`{name}`' for name in SCALES)}")
        return value

    @field_validator("log_snr", "steps")
    @classmethod
    def _in_order(cls, value: tuple[float | None, float | None] | None) -> tuple[float | None, float | None] | None:
        if value is not None and value[0] is not None and value[1] is not None and not value[0] < value[1]:
            raise ValueError("must start below its end")
        return value

    @field_validator("toward")
    @classmethod
    def _leads_somewhere(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("away_from"):
            raise ValueError("must differ from away_from")
        return value

    def names(self, scale: str) -> bool:
        """Whether the term's scale is ``scale`` (`guidance` or `style_guidance`) or that less 1."""
        return isinstance(self.scale, str) and self.scale.partition(" ")[0] == scale


class GuidanceSection(Section):
    """How a sampling step combines predictions: that of `start`, plus the sum over `terms` of scale · (toward − away_from)."""

    branches: dict[str, BranchSection] = Field(
        {}, description="Branches by name, besides `prompt` (the image's whole prompt) and `negative` (`sampling.negative_prompt`)."
    )
    terms: tuple[TermSection, ...] = Field(min_length=1, description="Terms to add.")
    start: str = Field(PROMPT, description="Branch whose prediction is the starting point.")
    style_guidance: float | None = Field(
        None, description="Scale of the terms that refer to it; `sampling.style_guidance` and `selection.style_guidances` change it."
    )

    @model_validator(mode="after")
    def _consistent(self) -> GuidanceSection:
        known = [*BUILT_IN, *self.branches]
        if built_in := sorted(BUILT_IN.keys() & self.branches.keys()):
            raise ValueError(f"branches.{built_in[0]}: is always {BUILT_IN[built_in[0]]}; choose another name")
        places = {"start": self.start}
        for number, term in enumerate(self.terms):
            places |= {f"terms.{number}.away_from": term.away_from, f"terms.{number}.toward": term.toward}
        for place, name in places.items():
            if name not in known:
                raise ValueError(f"{place}: there is no branch {name!r}{did_you_mean(name, known)}")
        if (self.style_guidance is None) == self.splits:
            raise ValueError("style_guidance: must be a number if and only if a term's scale refers to it")
        if PROMPT not in places.values():
            raise ValueError(f"terms: neither a term nor start uses the branch `{PROMPT}`, so the image's prompt would have no effect")
        return self

    def uses(self, name: str) -> bool:
        """Whether `start` or a term names a branch."""
        return name == self.start or any(name in (term.away_from, term.toward) for term in self.terms)

    @property
    def scaled(self) -> bool:
        """Whether `sampling.guidance` has an effect."""
        return any(term.names("guidance") for term in self.terms)

    @property
    def splits(self) -> bool:
        """Whether the style has a scale of its own."""
        return any(term.names("style_guidance") for term in self.terms)

    def length(self, term: TermSection, guidance: float) -> float:
        """A term's scale as a number, given the run's ``guidance``."""
        if not isinstance(term.scale, str):
            return term.scale
        named = guidance if term.names("guidance") else self.style_guidance
        assert named is not None
        return named + SCALES[term.scale]

    def as_text(self, guidance: float | None = None) -> str:
        """The formula in readable form, with the branches' prompts; given the run's ``guidance``, named scales appear as numbers."""
        parts = [self.start]
        for term in self.terms:
            scale = str(term.scale) if guidance is None or not isinstance(term.scale, str) else f"{self.length(term, guidance):g}"
            limits = [f"{name} {list(limit)}" for name, limit in (("log SNR", term.log_snr), ("steps", term.steps)) if limit]
            limits += [f"centred below log SNR {term.centred_below:g}"] if term.centred_below is not None else []
            scale = f"({scale})" if " " in scale else scale
            parts.append(f"{scale} · ({term.toward} − {term.away_from})" + (f" [{'; '.join(limits)}]" if limits else ""))
        named = [
            f"{name}: {branch.prompt!r}" + (", the base's weights" if branch.weights == "base" else "")
            for name, branch in self.branches.items() if self.uses(name)
        ]  # fmt: skip
        return " + ".join(parts) + (f" ({'; '.join(named)})" if named else "")

    @property
    def base_branches(self) -> list[str]:
        """The branches in the formula that use the base's weights."""
        return [name for name, branch in self.branches.items() if branch.weights == "base" and self.uses(name)]


PLAIN = GuidanceSection(start=NEGATIVE, terms=(TermSection(scale="guidance", away_from=NEGATIVE, toward=PROMPT),))
"""Classifier-free guidance (Ho & Salimans, 2022)."""


def plain_by_name(value: Any) -> Any:
    """Replace ``plain`` with :data:`PLAIN`, for runs of a method that has another formula by default."""
    return PLAIN if value == "plain" else value
