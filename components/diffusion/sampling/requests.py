"""Prompts as requests to the sampler: a user's own, or a bank's, in a style model's template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from components.core.config import SamplingSection
from components.core.content import digest_value
from components.core.errors import InputError
from components.core.prompting import fill_template, names_token, tokens_for
from components.diffusion.sampling.jobs import PromptRequest


def request_for(identity: str, category: str, text: str, template: str, concepts: Sequence[Mapping[str, Any]] = ()) -> PromptRequest:
    """A prompt in the template, with the tokens that its category asks for; a prompt that names a token is used as it is.

    ``template`` holds ``{prompt}``, and ``{token}`` if it asks for the style; ``concepts`` hold each ``token`` with its
    ``categories`` and, if it has one, its ``negative`` token, as ``styleforge.json`` lists them.
    """
    named = [str(row["token"]) for row in concepts if names_token(text, [str(row["token"])])]
    tokens = named or tokens_for(concepts, category)
    whole = text if named else fill_template(template, tokens, text)
    negatives = [(str(row["token"]), str(row["negative"])) for row in concepts if row.get("negative") and str(row["token"]) in tokens]
    return PromptRequest(identity, category, text, whole, tuple(filter(None, tokens)), tuple(negatives))


def prompt_requests(
    card: Mapping[str, Any], settings: SamplingSection, prompts: Sequence[str], *, plain: bool = False
) -> list[PromptRequest]:
    """One request for each distinct prompt, in the order in which they first occur; InputError if one is empty.

    ``card`` is the model's, see :mod:`components.core.model_card`; with ``plain`` the template is the style-free one.
    """
    if any(not prompt.strip() for prompt in prompts):
        raise InputError("PROMPT", "is empty", expected="what to draw")
    template = settings.plain_template if plain else settings.style_template
    return [request_for(_prompt_id(text), "sample", text, template, _all_concepts(card)) for text in dict.fromkeys(prompts)]


def picture_request(card: Mapping[str, Any], settings: SamplingSection, identity: str, caption: str) -> PromptRequest:
    """The request to draw, in the style, what a picture's caption says; without a caption it asks for the style alone."""
    request = request_for(identity, "restyle", caption, settings.style_template, _all_concepts(card))
    return request if caption else replace(request, full_prompt=request.full_prompt.rstrip(" ,;:"))


def _all_concepts(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All concepts, without categories: a user's prompt has no category, so it asks for every concept."""
    return [{**row, "categories": None} for row in card.get("concepts") or [{"token": card.get("identifier", "")}]]


def _prompt_id(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "prompt"
    return f"{slug}-{digest_value(text)[:6]}"
