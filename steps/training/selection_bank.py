"""The bank that candidates are judged by: in select, and in a training that may end early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.config import Limit, SamplingSection, ScoringSection, SelectionSection
from components.core.content import digest_value
from components.core.paths import state
from steps.evaluation.reference import style_ref_of
from steps.io.artifacts import Folder
from steps.io.base_model import load_base

if TYPE_CHECKING:
    from components.diffusion.models.bundle import Bundle
    from components.diffusion.sampling.jobs import PromptRequest
    from components.evaluation.selection import Judge, Point, Rule


@dataclass(frozen=True)
class SelectionBank:
    """Draws with candidates and has them judged by StyleRef; the reference is never looked at.

    ``sampling`` is the run's with the selection's bank, ``bank`` that bank's digest, ``tokens`` as of ``scoring.score``. It holds plain
    values alone, so that it can travel to other processes.
    """

    style_set: Folder
    seed: int
    base: Mapping[str, Any]
    concepts: list[dict[str, Any]]
    tokens: list[str]
    sampling: SamplingSection
    bank: str
    scoring: ScoringSection
    rules: SelectionSection

    @property
    def requests(self) -> list[PromptRequest]:
        """Its prompts in the style."""
        from steps.sampling.requests import bank_requests

        return bank_requests(self.sampling.bank, self.sampling.limit, self.sampling.style_template, self.concepts)

    def draw(self, model: Bundle, at: Point, out: Path, *, in_training: bool = False) -> Path:
        """Draw it with the scales of a point; returns ``out``."""
        from components.diffusion.sampling import sampler

        settings = self.sampling.guided_by(at.guidance, at.style_guidance)
        return sampler.sample_bank(model, self.requests, settings, self.seed, out, in_training=in_training)

    def judge(self) -> Judge:
        """What scores the pictures, with the networks loaded."""
        from components.evaluation.selection import Judge

        names = [self.rules.score, *(limit.metric for limit in self.rules.limits)]
        return Judge(style_ref_of(self.style_set), self.draw_base(), self.scoring, self.seed, self.tokens, names)

    def rule(self, baseline: float) -> Rule:
        """How it is chosen; ``baseline`` is the base's CLIP-T on these prompts."""
        from components.evaluation.selection import CLIP_T, Rule

        floor = Limit(metric=CLIP_T, at_least=(1 - self.rules.clip_t_margin) * baseline)
        return Rule(self.rules.score, [floor, *self.rules.limits], self.rules.confidence)

    def draw_base(self) -> Path:
        """Its pictures by the base, which all styles share: kept under the home by what they depend on."""
        from filelock import FileLock

        from components.diffusion.sampling import sampler
        from steps.sampling.requests import bank_requests

        plain = self.sampling.without_style().model_copy(update={"style_template": SamplingSection().style_template})
        parts = [self.base["digest"], self.base["precision"], self.seed, plain.model_dump(mode="json"), self.bank]
        place = state("cache", "selection") / digest_value(parts)[:24]
        with FileLock(place.with_suffix(".lock")):
            # Nothing is loaded where the pictures are there.
            if (place / "done").is_file():
                return place
            requests = bank_requests(plain.bank, plain.limit, plain.plain_template)
            sampler.sample_bank(load_base(dict(self.base)), requests, plain, self.seed, place)
            (place / "done").touch()
        return place
