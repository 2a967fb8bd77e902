"""The smallest change with which a run fits into memory, as settings of the configuration."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from components.core.config import RunConfig, parse_config
from components.core.errors import ConfigError
from components.diffusion.planning.records import MemoryPlan
from components.diffusion.training.methods import method_for

Settings = dict[str, object]
"""Values by dotted name; None removes a value."""
Try = Callable[[RunConfig], MemoryPlan]


@dataclass(frozen=True)
class Change:
    """Settings that make a run fit, and its memory plan with them."""

    settings: Settings
    plan: MemoryPlan

    def options(self) -> str:
        """The settings as command-line options."""
        return " ".join(f"--set {name}={_spell(value)}" for name, value in self.settings.items())


def _spell(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _checkpointing(config: RunConfig) -> Settings | None:
    return None if config.training.gradient_checkpointing else {"training.gradient_checkpointing": True}


def _smaller_drawing(config: RunConfig) -> Settings | None:
    return {"sampling.batch_size": config.sampling.batch_size // 2} if config.sampling.batch_size > 1 else None


def _smaller_scoring(config: RunConfig) -> Settings | None:
    return {"scoring.batch_size": config.scoring.batch_size // 2} if config.scoring.batch_size > 1 else None


def _smaller_captioning(config: RunConfig) -> Settings | None:
    captions = config.captions
    return {"captions.batch_size": captions.batch_size // 2} if captions.model and captions.batch_size > 1 else None


def _captioner_half(config: RunConfig) -> Settings | None:
    """The captioner's weights as they are on a GPU by default."""
    return {"captions.precision": None} if config.captions.model and config.captions.precision == "fp32" else None


def _smaller_batch(config: RunConfig) -> Settings | None:
    """Halve the micro-batches and double their number, which leaves the step the same."""
    training = config.training
    aux = training.aux_batch_size or training.batch_size
    if training.batch_size % 2 or aux % 2:
        return None
    halves: Settings = {
        "training.batch_size": training.batch_size // 2,
        "training.gradient_accumulation": training.gradient_accumulation * 2,
    }
    return halves if training.aux_batch_size is None else {**halves, "training.aux_batch_size": aux // 2}


def _half(config: RunConfig) -> Settings | None:
    return {"training.mixed_precision": "bf16"} if config.training.mixed_precision == "no" else None


def _optimizer(config: RunConfig) -> Settings | None:
    if config.training.optimizer != "adamw":
        return None
    return {"training.optimizer": "adamw8bit" if importlib.util.find_spec("bitsandbytes") else "adafactor"}


def _frozen_half(config: RunConfig) -> Settings | None:
    """Frozen weights in bf16, the default on a GPU."""
    precision = config.base.precision
    fp32 = [name for name in ("denoiser", "text_encoders") if getattr(precision, name) == "fp32"]
    return {f"base.precision.{name}": "bf16" for name in fp32} or None


def _fewer_bits(config: RunConfig) -> Settings | None:
    """8 bits, then 4 if the library for these is installed."""
    if config.base.precision.denoiser in ("fp8", "int8"):
        return {"base.precision.denoiser": "nf4"} if importlib.util.find_spec("bitsandbytes") else None
    return None if config.base.precision.denoiser == "nf4" else {"base.precision.denoiser": "fp8"}


def _text_bits(config: RunConfig) -> Settings | None:
    return {"base.precision.text_encoders": "fp8"} if config.base.precision.text_encoders in ("auto", "fp32", "bf16", "fp16") else None


def _offload(config: RunConfig) -> Settings | None:
    """Move another quarter of the denoiser's blocks to the host's memory."""
    return {"base.offload": min(1.0, config.base.offload + 0.25)} if config.base.offload < 1 else None


def _trained_half(config: RunConfig) -> Settings | None:
    return {"training.weights": "bf16"} if config.training.weights == "fp32" else None


def _average(config: RunConfig) -> Settings | None:
    return {"training.ema_decay": 0.0} if config.training.ema_decay else None


def _frozen_text(config: RunConfig) -> Settings | None:
    return {"method.train_text_encoder": False} if any(way.startswith("text_encoder") for way in method_for(config.method).trains) else None


def _low_rank(config: RunConfig) -> Settings | None:
    """Adapters instead of whole weights, with their own default learning rates."""
    if config.method.name == "lora":
        return None
    rates = ("learning_rate", "text_encoder_learning_rate", "token_learning_rate")
    own: Settings = {f"training.{rate}": None for rate in rates if getattr(config.training, rate) is not None}
    return {"method.name": "lora", **own, **({"method.concepts": []} if config.method.concepts else {})}


LADDER: tuple[Callable[[RunConfig], Settings | None], ...] = (
    _checkpointing, _frozen_half, _smaller_drawing, _smaller_scoring, _captioner_half, _smaller_captioning, _smaller_batch, _half,
    _optimizer, _average, _fewer_bits, _text_bits, _offload, _trained_half, _frozen_text, _low_rank, _fewer_bits, _offload,
)  # fmt: skip
"""Changes from cheap to costly. Each returns the settings to change, or None if there are none; it may be applied more than once."""


def smallest_change(config: RunConfig, plan: Try, usable: int) -> Change | None:
    """The change that makes a run fit into ``usable`` bytes; None if none is known.

    From cheap to costly, changes that help a step that is too large are made until the run fits; then each that turns out to be
    unnecessary is undone, the costliest first.
    """

    def excess(changes: Sequence[Settings]) -> tuple[int, MemoryPlan] | None:
        """Bytes beyond the limit, summed over the steps, and the plan with these changes; None if they do not fit the configuration."""
        try:
            found = plan(changed(config, merged(changes)))
        except ConfigError:
            return None
        return sum(max(0, step.total - usable) for step in found.steps), found

    made: list[Settings] = []
    best = excess(made)
    for rung in LADDER:
        while best and best[0]:
            change = rung(changed(config, merged(made)))
            after = excess([*made, change]) if change else None
            if change is None or after is None or after[0] >= best[0]:
                break
            best = after
            made.append(change)
    if best is None or best[0]:
        return None
    for change in reversed(made[:-1]):
        fewer = [each for each in made if each is not change]
        without = excess(fewer)
        if without and not without[0]:
            made, best = fewer, without
    return Change(merged(made), best[1])


def merged(changes: Sequence[Settings]) -> Settings:
    """All changes as one; later ones take precedence."""
    return {name: value for change in changes for name, value in change.items()}


def changed(config: RunConfig, settings: Mapping[str, object]) -> RunConfig:
    """The configuration with these settings; ConfigError if they do not fit it."""
    return parse_config(config.model_dump(mode="json"), overrides=[f"{name}={_spell(value)}" for name, value in settings.items()])
