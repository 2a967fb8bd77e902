"""Turns a prompt bank into requests to a sampler."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.requests import request_for
from components.evaluation.prompts import Prompt, load_bank


def bank_requests(bank: str, limit: int | None, template: str, concepts: Sequence[Mapping[str, Any]] = ()) -> list[PromptRequest]:
    """Put the first ``limit`` prompts (None: all) of a bank (a name or file) into a template; see :func:`request_for`."""
    return requests_for(load_bank(bank, limit), template, concepts)


def requests_for(prompts: Sequence[Prompt], template: str, concepts: Sequence[Mapping[str, Any]] = ()) -> list[PromptRequest]:
    """Do the same as :func:`bank_requests` for prompts that are already loaded."""
    return [request_for(prompt.id, prompt.category, prompt.text, template, concepts) for prompt in prompts]


def spread(requests: Sequence[PromptRequest], count: int) -> list[PromptRequest]:
    """Choose at most ``count`` requests, divided among the categories and evenly spaced in each; never hand-picked."""
    by_category: dict[str, list[PromptRequest]] = {}
    for request in requests:
        by_category.setdefault(request.category, []).append(request)
    chosen: list[PromptRequest] = []
    for index, items in enumerate(by_category.values()):
        most = min(len(range(index, count, len(by_category))), len(items))
        chosen += [items[place * len(items) // most] for place in range(most)]
    return chosen
