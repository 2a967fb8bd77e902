"""What a method trains, as data: the recipe by which a delta is written and loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from components.core.config import LoraSection

_LATER = {"kind", "init", "blocks"}
NEGATIVE_ROWS = "tokens.negative"
"""Name of the parameter set that holds the rows of negative tokens."""


@dataclass(frozen=True)
class Recipe:
    """Which parameters of a base train, and therefore what a delta holds.

    ``trains`` names the ways of training: ``denoiser`` and ``text_encoder`` (the whole networks), ``denoiser.cross-attention`` (its K and
    V), ``denoiser.low-rank`` and ``text_encoder.low-rank`` (adapters), ``denoiser.spectral`` and ``text_encoder.spectral`` (shifts of
    singular values), ``tokens`` (embedding rows of new tokens), ``identifiers`` (offsets to the rows of existing tokens). ``tokens`` are
    the tokens themselves; each new one has ``vectors`` rows, initialized from ``initial_word`` (None: from the token's own name without
    its brackets). With more than one of ``stages``, it has that many rows for each noise stage. ``negatives`` are new tokens of
    ``negative_vectors`` rows each, initialized near the same word. ``rates`` are factors of the learning rate by the name of the
    parameter set, see :attr:`parameter_sets`. ``strength`` is α in the result θ₀ + α (θ − θ₀), for the base θ₀ and the trained θ;
    training does not depend on it.
    """

    trains: frozenset[str]
    tokens: tuple[str, ...] = ()
    vectors: int = 1
    initial_word: str | None = None
    lora: LoraSection = field(default_factory=LoraSection)
    rates: tuple[tuple[str, float], ...] = ()
    negatives: tuple[str, ...] = ()
    negative_vectors: int = 0
    stages: int = 1
    strength: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """The recipe as a JSON value, see :meth:`from_json`."""
        lora = self.lora
        # Later additions are written only where they are used, so that the digests of earlier models stay the same.
        later = lora.model_dump(mode="json", include=_LATER, exclude_defaults=True)
        others: dict[str, Any] = {"rates": dict(self.rates)} if self.rates else {}
        if self.negatives:
            others |= {"negatives": list(self.negatives), "negative_vectors": self.negative_vectors}
        if self.stages > 1:
            others["stages"] = self.stages
        if self.strength != 1.0:
            others["strength"] = self.strength
        return {
            "trains": sorted(self.trains), "tokens": list(self.tokens), "vectors": self.vectors, "initial_word": self.initial_word,
            "lora": lora.model_dump(mode="json", exclude=_LATER) | {"rank": self.rank} | later, **others,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        """The inverse of :meth:`as_json`; earlier models call the denoiser ``unet``."""
        trains = frozenset(re.sub(r"^unet\b", "denoiser", way) for way in data["trains"])
        return cls(
            trains, tuple(data["tokens"]), int(data["vectors"]), data["initial_word"], LoraSection(**data["lora"]),
            rates=tuple(sorted(data.get("rates", {}).items())), negatives=tuple(data.get("negatives", ())),
            negative_vectors=data.get("negative_vectors", 0), stages=data.get("stages", 1),
            strength=data.get("strength", 1.0),
        )  # fmt: skip

    @property
    def parameter_sets(self) -> list[str]:
        """Names of all parameter sets that train: the ways, and the subsets of a way that can have their own rate."""
        within = {f"{way}.norms" for way in self.trains if way.endswith(".spectral")}
        return sorted(self.trains | within | ({NEGATIVE_ROWS} if self.negatives else set()))

    @property
    def new_tokens(self) -> dict[str, int]:
        """The tokens that get new embedding rows, with their numbers of rows; one token per stage, negative tokens last."""
        if "tokens" not in self.trains:
            return {}
        # This imports torch, which planning a run does not need.
        from components.diffusion.models.tokens import stage_names

        staged = [name for token in self.tokens for name in stage_names(token, self.stages)]
        return {**dict.fromkeys(staged, self.vectors), **dict.fromkeys(self.negatives, self.negative_vectors)}

    def kinds(self, *, adapters: bool = True) -> frozenset[str]:
        """The kinds of parts (``denoiser``, ``text_encoders``) in which something trains; without ``adapters``, those do not count."""
        ways = [way for way in self.trains if adapters or not way.endswith(".low-rank")]
        return frozenset("denoiser" if way.startswith("denoiser") else "text_encoders" for way in ways)

    @property
    def alpha(self) -> int:
        """The numerator of the updates' scale: the configured value, else the rank."""
        return self.rank if self.lora.alpha is None else self.lora.alpha

    @property
    def rank(self) -> int:
        """The rank of the updates."""
        return self.lora.rank or 4

    def with_targets(self, denoiser: tuple[str, ...], text_encoder: tuple[str, ...]) -> Recipe:
        """The recipe with all adapter targets set; the arguments are the family's defaults, used where it names none."""
        changes = {"targets": self.lora.targets or denoiser, "text_encoder_targets": self.lora.text_encoder_targets or text_encoder}
        return replace(self, lora=self.lora.model_copy(update=changes))
