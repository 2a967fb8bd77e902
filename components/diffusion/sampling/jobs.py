"""What to draw: prompts as the model gets them, and the pictures of each with their seeds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.core.content import derive_seed, digest_value
from components.core.errors import InputError


@dataclass(frozen=True)
class PromptRequest:
    """One prompt to draw: its id and category in the bank, the bank's text, and the whole prompt that the model gets.

    ``tokens`` are the identifiers that it asks for; ``negatives`` are pairs of an identifier and its negative token. They fill
    ``{token}`` and ``{negative}`` in the prompts of other branches, see :mod:`components.diffusion.sampling.guidance`.
    """

    id: str
    category: str
    prompt: str
    full_prompt: str
    tokens: tuple[str, ...] = ()
    negatives: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Job:
    """One picture to draw."""

    request: PromptRequest
    repeat: int
    seed: int

    @property
    def file_name(self) -> str:
        """``<prompt id>-r<repeat>.png``, the id as :func:`safe_name` returns it."""
        return f"{safe_name(self.request.id)}-r{self.repeat}.png"


def safe_name(name: str) -> str:
    """The name, if it is safe as a file's name; else those of its characters that are, with a digest."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        name = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] + "-" + digest_value(name)[:8]
    return name.lstrip("-")


def jobs_for(requests: Sequence[PromptRequest], repeats: int, seed: int) -> list[Job]:
    """All pictures of a bank, sorted by id and repeat. Each seed is a hash of (run seed, prompt id, repeat)."""
    ordered = sorted(requests, key=lambda request: request.id)
    for first, second in itertools.pairwise(ordered):
        if first.id == second.id:
            raise InputError("sampling.bank", f"two prompts have the id {first.id!r}", expected="a different id for each")
    return [Job(request, repeat, derive_seed(seed, "sample", request.id, repeat)) for request in ordered for repeat in range(repeats)]
