"""The prompt bank on which candidates are judged, in ``select`` and in training with early stopping."""

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
    """Draws with candidates and judges them against StyleRef; the reference is never used.

    ``sampling`` is the run's, but with the selection bank, ``bank`` that bank's digest, ``tokens`` as in ``scoring.score``. It holds only
    plain values, so that it can be sent to other processes.
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
        """The prompts of the bank in the style's template."""
        from steps.sampling.requests import bank_requests

        return bank_requests(self.sampling.bank, self.sampling.limit, self.sampling.style_template, self.concepts)

    def default(self, step: int, seed: int | None = None) -> Point:
        """A checkpoint at the configured scales."""
        from components.evaluation.selection import Point

        formula = self.sampling.guidance_formula
        return Point(step, float(self.sampling.guidance or 1.0), formula.style_guidance if formula else None, seed)

    def draw(self, model: Bundle, at: Point, out: Path, *, in_training: bool = False) -> Path:
        """Draw the bank with the guidance scales of a point; return ``out``."""
        from components.diffusion.sampling import sampler

        settings = self.sampling.guided_by(at.guidance, at.style_guidance)
        return sampler.sample_bank(model, self.requests, settings, self.seed, out, in_training=in_training)

    def judge(self) -> Judge:
        """Return the judge that scores the pictures, with its networks loaded."""
        from components.evaluation.selection import Judge

        return Judge(style_ref_of(self.style_set), self.draw_base(), self.scoring, self.seed, self.tokens, self.rules.scores)

    def rule(self, baseline: float) -> Rule:
        """Return the rule for choosing a candidate; ``baseline`` is the base's CLIP-T on these prompts."""
        from components.evaluation.selection import CLIP_T, Rule

        floor = Limit(metric=CLIP_T, at_least=(1 - self.rules.clip_t_margin) * baseline)
        return Rule(self.rules.score, [floor, *self.rules.limits], self.rules.confidence)

    def draw_base(self) -> Path:
        """Draw the bank with the base; the pictures are cached under the home by all that they depend on, and shared by all styles."""
        from filelock import FileLock

        from components.diffusion.sampling import sampler
        from steps.sampling.requests import bank_requests

        plain = self.sampling.without_style().model_copy(update={"style_template": SamplingSection().style_template})
        parts = [self.base["digest"], self.base["precision"], self.seed, plain.model_dump(mode="json"), self.bank]
        place = state("cache", "selection") / digest_value(parts)[:24]
        with FileLock(place.with_suffix(".lock")):
            # Do not load the base if the pictures are already there.
            if (place / "done").is_file():
                return place
            requests = bank_requests(plain.bank, plain.limit, plain.plain_template)
            sampler.sample_bank(load_base(dict(self.base)), requests, plain, self.seed, place)
            (place / "done").touch()
        return place
