"""The settings that decide about memory, apart from the configuration, so that a change of one can be tried by itself."""

from dataclasses import dataclass
from typing import Any

from components.core.config import RunConfig
from components.diffusion.training.methods import Recipe, method_for

BITS = {"fp32": 32.0, "bf16": 16.0, "fp16": 16.0, "fp8": 8.0, "int8": 8.0, "nf4": 4.5}
"""Bits of a frozen weight as it lies on the GPU. NF4 has a scale of 32 bits for each block of 64 (Dettmers et al., 2023)."""
QUANTIZED = ("fp8", "int8", "nf4")
"""Types that only matrices are kept in; all else of such a part is bf16."""
VALIDATED = 16
"""Most validation pictures, see ``read_training_set``."""


@dataclass(frozen=True)
class Storage:
    """How the frozen weights of a part lie: their type (see :data:`BITS`), and the share of its blocks that wait in the host's memory."""

    kind: str = "fp32"
    offloaded: float = 0.0


@dataclass(frozen=True)
class MemorySettings:
    """What a run's memory depends on besides the base.

    ``instances`` and ``aux`` are the pictures of a micro-batch, ``pictures`` and ``prompts`` what the caches hold, ``bank`` the prompts
    that are drawn. ``half`` is autocast's type in training or ``no``; with ``draws_half`` pictures are drawn in bf16, as GPUs do.
    ``guidance`` is None for the family's own, and so are ``resolution`` and ``drawn``, the sides in pixels of a training picture and of
    a drawn one; other shapes count as squares of their area. ``storage`` is by part, fp32 where it says nothing. With ``staged`` a part
    is on the GPU only while it works: the VAE for latents, text encoders for prompts, then the denoiser.
    """

    recipe: Recipe
    instances: int = 1
    aux: int = 0
    accumulation: int = 1
    checkpointing: bool = False
    half: str = "no"
    optimizer: str = "adamw"
    average: bool = False
    cache_latents: bool = True
    cache_text: bool = True
    pictures: int = 20
    prompts: int = 1
    validated: int = VALIDATED
    validation_prompts: int = 0
    resolution: int | None = None
    drawn: int | None = None
    storage: tuple[tuple[str, Storage], ...] = ()
    staged: bool = False
    sampling_batch: int = 8
    guidance: float | None = None
    draws_half: bool = True
    bank: int = 1
    scoring_batch: int = 64

    @property
    def micro_batch(self) -> int:
        """Pictures that go through the denoiser at once."""
        return self.instances + self.aux

    def as_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return {**vars(self), "recipe": self.recipe.as_json(), "storage": [[part, vars(storage)] for part, storage in self.storage]}

    def of(self, part: str) -> Storage:
        """How a part lies."""
        return dict(self.storage).get(part, Storage())


def settings_of(config: RunConfig, *, style_refs: int = 20, bank: int = 1) -> MemorySettings:
    """What a configuration says. ``style_refs`` is the number of StyleRef pictures, ``bank`` that of the prompts to draw."""
    method, training = method_for(config.method), config.training
    source = config.aux.source or method.preserves
    preserves = source != "none" and method.prior_weight > 0
    aux = {"generated": config.aux.generated_count, "curated": config.aux.count, "target": style_refs}.get(source, 0) if preserves else 0
    variants = training.crops * (2 if 0.0 < training.flip < 1.0 else 1)
    height, width = config.sampling.height, config.sampling.width
    templates = [concept.prompt for concept in method.concepts] + [concept.aux_prompt for concept in method.concepts if preserves]
    prompts = style_refs + aux if any("{caption}" in template for template in templates) else len(set(templates))
    return MemorySettings(
        recipe=method.recipe, instances=training.batch_size, aux=(training.aux_batch_size or training.batch_size) if preserves else 0,
        accumulation=training.gradient_accumulation, checkpointing=training.gradient_checkpointing, half=training.mixed_precision,
        optimizer=training.optimizer, average=training.ema_decay > 0, cache_latents=training.cache_latents, cache_text=training.cache_text,
        pictures=(style_refs + aux) * variants + VALIDATED, prompts=prompts + (training.caption_dropout > 0),
        validation_prompts=len(training.validation_prompts), sampling_batch=config.sampling.batch_size,
        resolution=training.resolution, drawn=round((height * width) ** 0.5) if height and width else height or width,
        guidance=config.sampling.guidance, bank=bank, scoring_batch=config.scoring.batch_size,
    )  # fmt: skip
