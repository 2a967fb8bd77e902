"""The configuration of one run: all its sections, and how they are read from a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from components.core.config import sections
from components.core.config.examine import ExamineSection
from components.core.config.files import read_config
from components.core.config.method import MethodSection
from components.core.config.rights import RightsSection
from components.core.config.section import Section
from components.core.config.selection import SelectionSection
from components.core.config.validation import validate_model
from components.core.content import digest_value
from components.core.nested import leaves
from components.core.overrides import apply_overrides


class RunConfig(Section):
    """One run of the `personalize` pipeline."""

    seed: int = Field(0, ge=0, description="Seed of the run; every consumer derives its own random stream from it.")
    style: sections.StyleSection
    aux: sections.AuxSection = sections.AuxSection()
    captions: sections.CaptionsSection = sections.CaptionsSection()
    base: sections.BaseSection = sections.BaseSection()
    method: MethodSection = MethodSection()
    training: sections.TrainingSection = sections.TrainingSection()
    sampling: sections.SamplingSection = sections.SamplingSection()
    selection: SelectionSection = SelectionSection()
    scoring: sections.ScoringSection = sections.ScoringSection()
    attention: sections.AttentionSection = sections.AttentionSection()
    examine: ExamineSection = ExamineSection()
    rights: RightsSection = RightsSection()
    registry: sections.RegistrySection = sections.RegistrySection()

    @model_validator(mode="before")
    @classmethod
    def _described(cls, data: Any) -> Any:
        """Default StyleDrop's descriptor to the style's name."""
        method, style = (data.get(name) for name in ("method", "style")) if isinstance(data, Mapping) else (None, None)
        if not isinstance(method, Mapping) or not isinstance(style, Mapping) or method.get("name") != "styledrop":
            return data
        name = re.sub(r"[-_.]+", " ", str(style.get("name", ""))).strip()
        return data if method.get("descriptor") is not None or not name else {**data, "method": {**method, "descriptor": name}}

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if "{token}" not in self.method.instance_prompt:
            raise ValueError("method.instance_prompt: must contain {token}, for the identifier")
        if odd := [prompt for prompt in self.method.instance_prompts or () if "{token}" not in prompt]:
            raise ValueError(f"method.instance_prompts: each must contain {{token}}, for the identifier; {odd[0]!r} does not")
        if "{prompt}" not in self.sampling.style_template or "{token}" not in self.sampling.style_template:
            raise ValueError("sampling.style_template: must contain {token} and {prompt}")
        if "{prompt}" not in self.sampling.plain_template or "{token}" in self.sampling.plain_template:
            raise ValueError("sampling.plain_template: must contain {prompt} but not {token}")
        seeds = [self.seed, *self.selection.seeds]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"selection.seeds: {list(self.selection.seeds)} and seed={self.seed} must all differ")
        if problem := self.training.conflict() or self._fetched_conflict():
            raise ValueError(problem)
        return self

    def _fetched_conflict(self) -> str | None:
        """A message about what is incompatible with packed or offloaded weights, which layers fetch only for each call; else None."""
        precision, offload = self.base.precision.denoiser, self.base.offload
        packed, lora = ("fp8", "int8", "nf4"), self.method.lora
        for part, trains in (("denoiser", True), ("text_encoders", self.method.train_text_encoder)):
            # lokr and loha reshape their update to the shape of the weight matrix, which a packed one does not have.
            if trains and getattr(self.base.precision, part) in packed and self.method.name == "lora" and lora.kind in ("lokr", "loha"):
                return f"method.lora.kind={lora.kind}: needs base.precision.{part} of 16 bits or more, or kind lora or oft"
        if precision not in packed and not offload:
            return None
        name = "base.offload" if offload else "base.precision.denoiser"
        if self.training.compile:
            return f"training.compile: cannot be combined with {name}={offload or precision}; omit one of them"
        if self.method.lora.dora:
            return f"method.lora.dora: needs the frozen weights in place, which {name}={offload or precision} does not allow"
        return None

    @property
    def model_name(self) -> str:
        """The registered model's name."""
        return self.registry.model or f"styleforge-{self.style.name}"

    def digest(self) -> str:
        """sha256 of the resolved configuration; it covers rights only if they are recorded, so that older digests stay valid."""
        return digest_value(self.model_dump(mode="json", exclude=None if self.rights.recorded else {"rights"}))

    def flat(self) -> dict[str, Any]:
        """The configuration flattened to dotted keys, as MLflow expects its parameters."""
        return dict(leaves(self.model_dump(mode="json")))


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run configuration by path or name, and apply ``a.b=value`` overrides.

    Raises InputError for a file that is missing or not YAML, ConfigError for a wrong value or unknown key (naming the nearest known one).
    """
    path, data = read_config(path)
    return parse_config(data, where=str(path), overrides=overrides)


def parse_config(data: Mapping[str, Any], *, where: str = "config", overrides: Sequence[str] = ()) -> RunConfig:
    """Validate a mapping as a :class:`RunConfig`. See :func:`load_config`."""
    return validate_model(RunConfig, apply_overrides(data, overrides, RunConfig), where)
