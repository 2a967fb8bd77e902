"""Guidance as other programs express it: a scale and a negative prompt, and in ComfyUI a third prompt between the two."""

from __future__ import annotations

from dataclasses import dataclass

from components.core.config import SamplingSection
from components.core.config.guidance import PROMPT
from components.diffusion.sampling.guidance import branch_prompt, combination_at, formula_of, is_plain
from components.diffusion.sampling.jobs import PromptRequest


@dataclass(frozen=True)
class Guided:
    """Guidance as negative + middle_scale · (middle − negative) + scale · (prompt − middle).

    Without a ``middle`` prompt, the negative one takes its place. ``note`` is what a user must be told, empty for plain guidance.
    """

    scale: float
    negative: str
    middle: str | None = None
    middle_scale: float = 1.0
    note: str = ""


def guided(settings: SamplingSection, guidance: float, request: PromptRequest, *, middle: bool = False) -> Guided:
    """A request's guidance for other programs, at the run's scale ``guidance``; ``middle`` is for programs that take three prompts.

    What they cannot express becomes plain guidance, and the note says so.
    """
    plain, formula = Guided(guidance, settings.negative_prompt), formula_of(settings)
    if is_plain(settings):
        return plain
    asked = f"StyleForge guides this model by {formula.as_text(guidance)}."
    by_noise = any(term.log_snr or term.steps or term.centred_below is not None for term in formula.terms)
    combination = combination_at(formula, guidance)
    others = [name for name in combination.branches if name != PROMPT]
    if by_noise or set(others) & set(formula.base_branches) or len(others) > 1 + middle:
        lost = f"Here it is plain guidance, at scale {guidance:g} away from {settings.negative_prompt!r}: images differ."
        remedy = "StyleForge itself draws as the model was scored, in `styleforge sample` and when it serves the model."
        return Guided(plain.scale, plain.negative, note=f"{asked} This format cannot express that. {lost} {remedy}")
    counts = combination.coefficients()
    texts = [branch_prompt(name, request, settings) for name in others]
    holds = any("prompt}" in formula.branches[name].prompt for name in others if name in formula.branches)
    changes = " Its other prompts contain the prompt's own text: change them together." if holds else ""
    means = "two other prompts and their scales" if len(others) > 1 else "the negative prompt and its scale"
    note, scale = f"{asked} Here {means} have the same effect.", counts.get(PROMPT, 0.0)
    if len(others) < 2:
        return Guided(scale, texts[0] if texts else "", note=note + changes)
    return Guided(scale, texts[0], texts[1], 1.0 - counts.get(others[0], 0.0), note + changes)
