"""Guidance: predictions for several prompts, by the model or by its base, combined linearly at each denoising step.

Classifier-free guidance (Ho & Salimans, 2022) is the formula with two branches; :class:`components.core.config.GuidanceSection`
describes what else there is. The branches of one network are evaluated in one batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from components.core.config import PLAIN, GuidanceSection, SamplingSection, TermSection
from components.core.config.guidance import NEGATIVE, PROMPT
from components.core.errors import ConfigError
from components.core.prompting import TOKEN, fill_tokens
from components.diffusion.models.bundle import Bundle
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Family
from components.diffusion.sampling.aligned import Aligned
from components.diffusion.sampling.jobs import Job, PromptRequest
from components.diffusion.training.caches import PromptCache

FIELD = "sampling.guidance_formula"
IDENTITY = {TOKEN: "identifier", NEGATIVE: "negative_vectors", "full_negative": "negative_vectors"}
"""For each placeholder of a template, the method's setting that provides what fills it."""
Predict = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""The guided prediction, shape (N, C, h, w), for scaled latents of that shape, the sampler's timestep and the step's number."""


@dataclass(frozen=True)
class Difference:
    """scale · (toward − away_from) of two branches' predictions; if ``centred``, minus the mean of each channel of each picture."""

    scale: float
    away_from: str
    toward: str
    centred: bool = False

    def of(self, predictions: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The difference, shape (N, C, h, w)."""
        found = predictions[self.toward] - predictions[self.away_from]
        return self.scale * (found - found.mean(dim=(2, 3), keepdim=True) if self.centred else found)


@dataclass(frozen=True)
class Combination:
    """A formula at one level of noise: the prediction of ``start``, plus the ``differences``."""

    start: str
    differences: tuple[Difference, ...] = ()

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that it needs, in the order of the batch: the prompt is always among them, in last place."""
        named = [self.start, *(name for each in self.differences for name in (each.away_from, each.toward))]
        return (*(name for name in dict.fromkeys(named) if name != PROMPT), PROMPT)

    def of(self, predictions: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The combination of the branches' predictions."""
        found = predictions[self.start]
        for each in self.differences:
            found = found + each.of(predictions)
        return found

    def coefficients(self) -> dict[str, float]:
        """The coefficient of each branch, if no difference is centred; those of zero are left out."""
        found = {self.start: 1.0}
        for each in self.differences:
            found[each.toward] = found.get(each.toward, 0.0) + each.scale
            found[each.away_from] = found.get(each.away_from, 0.0) - each.scale
        return {name: value for name, value in found.items() if abs(value) > 1e-9}


def combination_at(formula: GuidanceSection, guidance: float, log_snr: float = 0.0, share: float = 0.0) -> Combination:
    """The formula at a noise level's log SNR, when a ``share`` of the steps is done.

    Branches without effect are left out, so that guidance of 1 needs the prompt alone: a term of scale 0 is dropped, and one of scale 1
    that leads away from the start makes its other end the start.
    """
    lengths = [(term, formula.length(term, guidance)) for term in formula.terms]
    differences = [
        Difference(length, term.away_from, term.toward, term.centred_below is not None and log_snr < term.centred_below)
        for term, length in lengths
        if length != 0.0 and _applies(term, log_snr, share)
    ]
    start = formula.start
    while whole := next((each for each in differences if each.scale == 1.0 and each.away_from == start and not each.centred), None):
        differences.remove(whole)
        start = whole.toward
    return Combination(start, tuple(differences))


def branches_of(formula: GuidanceSection, guidance: float) -> tuple[str, ...]:
    """The branches that the steps may need, in the order of the batch."""
    everywhere = tuple(term.model_copy(update={"log_snr": None, "steps": None}) for term in formula.terms)
    return combination_at(formula.model_copy(update={"terms": everywhere}), guidance).branches


def _applies(term: TermSection, log_snr: float, share: float) -> bool:
    low, high = term.log_snr or (None, None)
    first, last = term.steps or (0.0, 1.0)
    # The share of the last step is below 1.
    return (low is None or low <= log_snr) and (high is None or log_snr < high) and first <= share < last


def formula_of(settings: SamplingSection) -> GuidanceSection:
    """The formula of the settings; plain guidance if they have none."""
    return settings.guidance_formula or PLAIN


def is_plain(settings: SamplingSection) -> bool:
    """Whether the settings guide from the negative prompt to the prompt, and by nothing else."""
    return formula_of(settings) == PLAIN


def branch_prompt(name: str, request: PromptRequest, settings: SamplingSection) -> str:
    """A branch's prompt for a request. ConfigError if the template asks for tokens that the request does not have."""
    if name in (PROMPT, NEGATIVE):
        return request.full_prompt if name == PROMPT else settings.negative_prompt
    template = formula_of(settings).branches[name].prompt
    others = [other for _, other in request.negatives]
    needs = {TOKEN: request.tokens, NEGATIVE: others, "full_negative": others}
    for place, tokens in needs.items():
        if f"{{{place}}}" in template and not tokens:
            what = "identifier" if place == TOKEN else "negative token"
            raise ConfigError(
                f"{FIELD}.branches.{name}.prompt={template!r}", f"contains {{{place}}}, but the model has no {what}",
                expected=f"a prompt without it, or a model of a method that learns one (method.{IDENTITY[place]})",
            )  # fmt: skip
    filled = fill_tokens(fill_tokens(template, request.tokens), others, NEGATIVE)
    negative = request.full_prompt
    for token, other in request.negatives:
        negative = negative.replace(token, other)
    # In one pass, since prompts may hold braces.
    texts = {"prompt": request.prompt, "full_prompt": request.full_prompt, "full_negative": negative}
    return re.sub(r"\{(prompt|full_prompt|full_negative)\}", lambda place: texts[place[1]], filled)


def describe_guidance(request: PromptRequest, bundle: Bundle, settings: SamplingSection) -> dict[str, Any]:
    """What a picture depends on because of guidance: nothing if it is plain; else the formula, the branches' prompts and any base."""
    if is_plain(settings):
        return {}
    formula = formula_of(settings)
    prompts = {name: branch_prompt(name, request, settings) for name in formula.branches if formula.uses(name)}
    base = {"base": bundle.frozen.digest} if formula.base_branches else {}
    return {"guidance_formula": formula.model_dump(mode="json"), "branch_prompts": prompts, **base}


@dataclass
class _Side:
    """A network with the branches that it predicts: the model, or its base; and the picture that it draws in line with, if any."""

    family: Family
    names: frozenset[str]
    prompts: PromptCache
    aligned: Aligned | None = None

    def rows(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """What is denoised in each branch: that picture, then those of the jobs."""
        return [self.aligned.job, *jobs] if self.aligned else jobs

    def predict(self, latents: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning, guidance: float) -> list[torch.Tensor]:
        """The prediction of each branch in turn, of the latents' shape, for the conditioning of all their rows."""
        rows = self.aligned.before(latents, timestep) if self.aligned else latents
        branches = len(conditioning) // len(rows)
        batch = torch.cat([rows] * branches) if branches > 1 else rows
        with self.aligned.attention(len(rows)) if self.aligned else nullcontext():
            found = self.family.predict(batch, timestep, conditioning, guidance=guidance)
        return [each[-len(latents) :] for each in found.chunk(branches)]


class Guidance:
    """The guidance formula of a drawing, with the networks and the prompts that it needs.

    Raises:
        ConfigError: the base is guidance-distilled, and the formula is not plain.
        InputError: a branch uses the base's weights, and the base is not available.
    """

    def __init__(self, bundle: Bundle, settings: SamplingSection) -> None:
        family = bundle.family
        self._settings, self._formula, self._objective = settings, formula_of(settings), family.objective
        family.layout.check_formula(self._formula, family.denoiser.config)
        self._guidance = family.drawing(settings).guidance
        self._embedded = family.guidance_embedded
        of_base = frozenset(self._formula.base_branches) if bundle.tuned_from else frozenset[str]()
        everything = frozenset(name for name in (PROMPT, NEGATIVE, *self._formula.branches) if name == PROMPT or self._formula.uses(name))
        families = {family: everything - of_base, **({bundle.frozen.family: of_base} if of_base else {})}
        self._sides = [_Side(each, names, self._cache(each)) for each, names in families.items()]
        self._own = self._sides[0]
        self._own.aligned = Aligned(bundle, settings) if bundle.aligned_to else None

    @staticmethod
    def _cache(family: Family) -> PromptCache:
        return PromptCache(family, family.device, keep_states=True)

    @property
    def prompts(self) -> PromptCache:
        """What prompts are to the model."""
        return self._own.prompts

    @property
    def families(self) -> list[Family]:
        """The networks that take part: the model and, if needed, its base."""
        return [side.family for side in self._sides]

    def read(self, jobs: Sequence[Job]) -> None:
        """Forget earlier prompts. Where parts take turns on the GPU, encode those of the jobs and make room for denoising."""
        for side in self._sides:
            side.prompts = self._cache(side.family)
            if side.family.take_turns:
                side.family.turn(*side.family.text_encoders)
                texts = [prompt for name in sorted(side.names) for prompt in self._texts(name, side.rows(jobs))]
                side.prompts.encode(side.family.at_all_stages(texts))
                side.family.turn(side.family.layout.denoiser, *(("vae",) if side is self._own else ()))

    def for_jobs(self, jobs: Sequence[Job], steps: int) -> Predict:
        """The guided prediction for a batch of jobs, drawn in so many steps."""
        # Without the identifier a picture is not in the style.
        in_style = any(job.request.tokens for job in jobs)
        sides = self._sides if in_style else [replace(side, aligned=None) for side in self._sides]
        texts = {name: self._texts(name, side.rows(jobs)) for side in sides for name in side.names}
        # At a step's noise a token may stand for other rows than at another's.
        conditionings: dict[tuple[str, ...], Conditioning] = {}
        staged = [bool(side.family.stages) for side in sides]

        def predict(latents: torch.Tensor, timestep: torch.Tensor, step: int) -> torch.Tensor:
            combination, predictions = self._at(timestep, step / steps), dict[str, torch.Tensor]()
            for side, by_stage in zip(sides, staged, strict=True):
                names = [name for name in combination.branches if name in side.names]
                if not names:
                    continue
                prompts = [prompt for name in names for prompt in texts[name]]
                prompts = side.family.at_times(prompts, timestep) if by_stage else prompts
                # Each branch is of one side.
                key = (names[0], *prompts)
                if key not in conditionings:
                    conditionings[key] = side.prompts.encode(prompts)
                predictions |= zip(names, side.predict(latents, timestep, conditionings[key], self._guidance), strict=True)
            return combination.of(predictions)

        return predict

    def _at(self, timestep: torch.Tensor, share: float) -> Combination:
        if self._embedded:
            return Combination(PROMPT)
        by_noise = any(term.log_snr or term.centred_below is not None for term in self._formula.terms)
        level = float(self._objective.log_snr(timestep.reshape(1))) if by_noise else 0.0
        return combination_at(self._formula, self._guidance, level, share)

    def _texts(self, name: str, jobs: Sequence[Job]) -> list[str]:
        return [branch_prompt(name, job.request, self._settings) for job in jobs]
