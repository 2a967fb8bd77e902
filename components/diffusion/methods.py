"""Fine-tuning methods as data: what is bound, what trains, what preserves. The training loop knows nothing else."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from components.config import MethodSection
from components.errors import ConfigError

ALL_ROLES = frozenset({"character", "background", "thing", None})


@dataclass(frozen=True)
class Concept:
    """A rare token and the StyleRef pictures that it is bound to.

    ``prompt`` and ``aux_prompt`` are templates that may hold ``{caption}``; the token is filled in already. ``roles`` are
    the StyleRef roles that belong to the concept.
    """

    token: str
    prompt: str
    aux_prompt: str
    roles: frozenset[str | None] = ALL_ROLES


@dataclass(frozen=True)
class Method:
    """A fine-tuning method.

    ``trains`` names the trainable parts of the bundle (``unet``, ``text_encoder``); ``preserves`` the usual source of the
    Aux pictures; ``prior_weight`` is λ, the weight of the Aux loss.
    """

    name: str
    concepts: tuple[Concept, ...]
    trains: frozenset[str]
    preserves: str
    prior_weight: float

    @property
    def tokens(self) -> tuple[str, ...]:
        """The rare tokens, in the order of the concepts."""
        return tuple(concept.token for concept in self.concepts)


def _whole_style(config: MethodSection) -> tuple[Concept, ...]:
    return (Concept(config.identifier, config.instance_prompt.replace("{token}", config.identifier), config.aux_prompt),)


@dataclass(frozen=True)
class _Row:
    concepts: Callable[[MethodSection], tuple[Concept, ...]]
    preserves: str


# DreamBooth (Ruiz et al., 2023) and Single-StyleForge (Park et al., 2023) bind and train alike; they differ in what preserves.
METHODS = {
    "dreambooth": _Row(_whole_style, preserves="generated"),
    "single-styleforge": _Row(_whole_style, preserves="curated"),
}


def method_for(config: MethodSection) -> Method:
    """The method that a run's ``method:`` section describes.

    Raises:
        ConfigError: the method is unknown (the nearest known one is named).
    """
    if config.name not in METHODS:
        near = difflib.get_close_matches(str(config.name), METHODS, n=1, cutoff=0.0)
        raise ConfigError(
            "method.name", f"unknown method {config.name!r} (did you mean {near[0]}?)", expected=f"one of {', '.join(METHODS)}"
        )
    row = METHODS[config.name]
    trains = {"unet"} | ({"text_encoder"} if config.train_text_encoder else set())
    return Method(config.name, row.concepts(config), frozenset(trains), row.preserves, config.prior_weight)


def fill_prompt(template: str, caption: str | None) -> str:
    """Put a picture's caption in place of ``{caption}``; without one, the place and the comma before it go too."""
    if "{caption}" not in template:
        return template
    if caption and caption.strip():
        return template.replace("{caption}", caption.strip())
    return re.sub(r"\s*,?\s*\{caption\}\s*", " ", template).strip(" ,")
