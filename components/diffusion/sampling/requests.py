"""A user's prompts as requests to the sampler, in a style model's own template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.core.config import SamplingSection
from components.core.content import digest_value
from components.core.errors import InputError
from components.core.prompting import fill_template, names_token
from components.diffusion.sampling.sampler import PromptRequest


def prompt_requests(
    card: Mapping[str, Any], settings: SamplingSection, prompts: Sequence[str], *, plain: bool = False
) -> list[PromptRequest]:
    """One request for each different prompt, in the order in which they first occur.

    A prompt that names an identifier is taken as it stands, others are put into the template.

    Args:
        card: the model's, see :mod:`components.core.card`.
        settings: hold the templates.
        prompts: what to draw.
        plain: use the style-free template.

    Raises:
        InputError: a prompt is empty.
    """
    if any(not prompt.strip() for prompt in prompts):
        raise InputError("PROMPT", "is empty", expected="what to draw")
    template = settings.plain_template if plain else settings.style_template
    concepts = card.get("concepts") or [{"token": card.get("identifier", "")}]
    tokens = [str(row["token"]) for row in concepts]
    whole = {text: text if names_token(text, tokens) else fill_template(template, tokens, text) for text in prompts}
    return [PromptRequest(_prompt_id(text), "sample", text, full) for text, full in whole.items()]


def _prompt_id(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "prompt"
    return f"{slug}-{digest_value(text)[:6]}"
