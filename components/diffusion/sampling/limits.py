"""Limits of one request for pictures, set by the server's operator through environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from components.core.config import SamplingSection
from components.core.errors import InputError
from components.diffusion.models.layouts import Drawing

PREFIX = "STYLEFORGE_SERVE_MAX_"
GUIDANCE = (1, 30)
SEEDS = (0, 2**63 - 1)


@dataclass(frozen=True)
class Limits:
    """Upper bounds of one request, each set by ``STYLEFORGE_SERVE_MAX_`` and its name in capitals.

    ``prompt`` is in characters, ``count`` in pictures per prompt, ``steps`` in denoising steps, ``pictures`` in all pictures,
    ``pixels`` in pixels of all pictures together, and ``batch`` in pictures that are drawn at once.
    """

    prompt: int = 1000
    count: int = 16
    steps: int = 150
    pictures: int = 64
    pixels: int = 16 * 1024 * 1024
    batch: int = SamplingSection().batch_size

    @classmethod
    def from_environment(cls) -> Limits:
        """The defaults, overridden by the environment. InputError if a variable is not a positive whole number."""
        given = {field.name: os.environ.get(PREFIX + field.name.upper(), "").strip() for field in fields(cls)}
        for name, text in given.items():
            if text and not (text.isascii() and text.isdigit() and int(text) > 0):
                raise InputError(f"{PREFIX}{name.upper()}={text}", "is not a valid limit", expected="a positive whole number")
        return cls(**{name: int(text) for name, text in given.items() if text})


@dataclass(frozen=True)
class Request:
    """A checked request: the prompts, ``count`` pictures of each, the seed, and how they are drawn."""

    prompts: tuple[str, ...]
    count: int
    seed: int
    steps: int
    guidance: float


def check_request(
    prompts: Sequence[str], params: Mapping[str, Any], own: Drawing, size: tuple[int, int], limits: Limits | None = None, *,
    scaled: bool = True,
) -> Request:  # fmt: skip
    """Check a request to a model with pictures of ``size`` (height, width) pixels. InputError names a value out of bounds and the bounds.

    ``params`` are ``seed``, ``steps``, ``guidance`` and ``count``; where missing or None, they default to 0, the model's own steps and
    guidance, and 1. The model's own steps and guidance are always allowed, since it was scored with them. If its guidance scales are
    fixed (``scaled`` is False), no other guidance is allowed.
    """
    limits = limits or Limits()
    defaults = {"seed": 0, "steps": own.steps, "guidance": own.guidance, "count": 1}
    value: dict[str, Any] = {name: default if params.get(name) is None else params[name] for name, default in defaults.items()}
    _within("seed", value["seed"], *SEEDS)
    if value["steps"] != own.steps:
        _within("steps", value["steps"], 1, limits.steps)
    if value["guidance"] != own.guidance:
        if not scaled:
            raise InputError(f"guidance={value['guidance']}", "the scales of this model's guidance are fixed", expected="no guidance")
        _within("guidance", value["guidance"], *GUIDANCE)
    _within("count", value["count"], 1, limits.count)
    _within("number of prompts", len(prompts), 1, limits.pictures)
    for prompt in prompts:
        # A lone surrogate, half of a character, can be in JSON but not in a file.
        if not isinstance(prompt, str) or prompt != prompt.encode("utf-8", "replace").decode():
            raise InputError(f"prompt={prompt!r}", "is not text", expected="text", remedy="give several prompts as several rows")
        if len(prompt) > limits.prompt:
            raise InputError(f"prompt {prompt[:40]!r}…", f"has {len(prompt)} characters", expected=f"at most {limits.prompt}")
    pictures = len(prompts) * value["count"]
    _within("prompts × count", pictures, 1, limits.pictures)
    fitting = limits.pixels // (size[0] * size[1])
    if pictures > fitting:
        raise InputError(
            "prompts × count", f"{pictures} images of {size[1]} × {size[0]} pixels are more than {limits.pixels} pixels",
            expected=f"at most {fitting} images per request",
        )  # fmt: skip
    return Request(tuple(prompts), value["count"], value["seed"], value["steps"], float(value["guidance"]))


def _within(name: str, value: float, low: float, high: float) -> None:
    # Written so that NaN is refused too.
    if not low <= value <= high:
        raise InputError(f"{name}={value}", "out of bounds", expected=f"{low} to {high}")
