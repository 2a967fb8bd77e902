"""A prompt bank as requests to a sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.core.prompting import fill_template, names_token, tokens_for
from components.diffusion.sampling.sampler import PromptRequest
from components.evaluation.prompts import Prompt, load_bank


def bank_requests(bank: str, limit: int | None, template: str, concepts: Sequence[Mapping[str, Any]] = ()) -> list[PromptRequest]:
    """Fill each prompt of the bank into the template, with the tokens that its category asks for.

    A prompt that names a token itself is taken as it stands.

    Args:
        bank: name or file.
        limit: only the first so many prompts.
        template: holds ``{prompt}``, and ``{token}`` where the style is asked for.
        concepts: each ``token`` with its ``categories``, as ``styleforge.json`` lists them.
    """
    return requests_for(load_bank(bank, limit), template, concepts)


def requests_for(prompts: Sequence[Prompt], template: str, concepts: Sequence[Mapping[str, Any]] = ()) -> list[PromptRequest]:
    """The same for prompts that are read already."""
    tokens = [str(row["token"]) for row in concepts]
    requests = []
    for prompt in prompts:
        whole = (
            prompt.text if names_token(prompt.text, tokens) else fill_template(template, tokens_for(concepts, prompt.category), prompt.text)
        )
        requests.append(PromptRequest(prompt.id, prompt.category, prompt.text, whole))
    return requests


def spread(requests: Sequence[PromptRequest], count: int) -> list[PromptRequest]:
    """At most ``count`` requests, one category after the other, evenly spaced in each; never chosen by eye."""
    by_category: dict[str, list[PromptRequest]] = {}
    for request in requests:
        by_category.setdefault(request.category, []).append(request)
    shares = [len(range(index, count, len(by_category))) for index in range(len(by_category))]
    return [
        items[place * len(items) // share]
        for items, share in ((items, min(share, len(items))) for items, share in zip(by_category.values(), shares, strict=True))
        for place in range(share)
    ]
