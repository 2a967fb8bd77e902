"""A prompt bank as requests to a sampler."""

from __future__ import annotations

from components.diffusion.sampling import PromptRequest
from components.evaluation.prompts import load_bank


def bank_requests(bank: str, limit: int | None, template: str, token: str = "") -> list[PromptRequest]:
    """Fill each prompt of the bank into the template.

    Args:
        bank: name or file.
        limit: only the first so many prompts.
        template: holds ``{prompt}``, and ``{token}`` where the style is asked for.
        token: the identifier.
    """
    # Prompts may hold braces, so str.format is out of the question.
    before, _, after = template.replace("{token}", token).partition("{prompt}")
    return [PromptRequest(prompt.id, prompt.category, prompt.text, before + prompt.text + after) for prompt in load_bank(bank, limit)]
