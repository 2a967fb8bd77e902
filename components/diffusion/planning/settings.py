"""The settings that determine memory, separate from the configuration, so that each can be varied by itself."""

from dataclasses import dataclass
from typing import Any

from components.core.config import GuidanceSection, RunConfig
from components.diffusion.training.methods import method_for
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.variety import Variety

QUANTIZED = ("fp8", "int8", "nf4")
"""Precisions whose matrices are expanded to bf16 for each product."""
VALIDATED = 16
"""The largest number of validation pictures, see ``read_training_set``."""


@dataclass(frozen=True)
class Storage:
    """How the frozen weights of a part are stored: their precision, and the share of its blocks offloaded to the host's memory."""

    kind: str = "fp32"
    offloaded: float = 0.0


@dataclass(frozen=True)
class MemorySettings:
    """What a run's memory depends on besides the base.

    ``instances`` and ``aux`` are the pictures of a micro-batch, ``repeated`` the further predictions that a loss needs, ``pictures``
    and ``prompts`` what the caches hold, ``bank`` the number of prompts that are drawn. With ``asks_base`` a copy of the trained
    parameters' initial values is kept, and with ``watches`` candidates are drawn and scored during training. ``half`` is autocast's
    type in training, or ``no``. ``guidance`` is None for the family's own scale, ``formula`` is None for plain guidance.
    ``resolution`` and ``drawn`` are the sides in pixels of a training picture and of a drawn one (None: the family's own); other shapes
    count as squares of the same area. ``denoiser``, ``text_encoders`` and ``vae`` say how these are stored where they are frozen,
    ``weights`` is the precision of trained weights. With ``staged``, training has a part on the GPU only while it works: the VAE for
    latents, text encoders for prompts, then the denoiser; drawing does so if all parts take too much of ``size``, the GPU's bytes.
    ``captioner`` is the precision of the captioning model, ``described`` its batch size, ``answer`` the most tokens of a caption.
    ``on_gpu`` is False for the CPU, where drawing and quantized layers compute in fp32, and cached prompts count too.
    """

    recipe: Recipe
    instances: int = 1
    aux: int = 0
    repeated: int = 0
    asks_base: bool = False
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
    watches: bool = False
    resolution: int | None = None
    drawn: int | None = None
    denoiser: Storage = Storage()
    text_encoders: Storage = Storage()
    vae: Storage = Storage()
    weights: str = "fp32"
    staged: bool = False
    size: int | None = None
    on_gpu: bool = True
    sampling_batch: int = 8
    guidance: float | None = None
    formula: GuidanceSection | None = None
    bank: int = 1
    scoring_batch: int = 64
    captioner: str = "bf16"
    described: int = 4
    answer: int = 60

    @property
    def micro_batch(self) -> int:
        """Pictures of a micro-batch."""
        return self.instances + self.aux

    @property
    def predicted(self) -> int:
        """Predictions of a micro-batch that gradients flow through."""
        return self.micro_batch + self.repeated

    def as_json(self) -> dict[str, Any]:
        """As a JSON value."""
        parts = {name: vars(getattr(self, name)) for name in ("denoiser", "text_encoders", "vae")}
        formula = {"formula": self.formula.model_dump(mode="json") if self.formula else None}
        return {**vars(self), **parts, **formula, "recipe": self.recipe.as_json()}

    def of(self, part: str) -> Storage:
        """How a part is stored, by its name in the layout."""
        return self.text_encoders if part.startswith("text_encoder") else self.vae if part == "vae" else self.denoiser

    @property
    def storage(self) -> tuple[Storage, Storage, Storage]:
        """How all parts are stored."""
        return self.denoiser, self.text_encoders, self.vae


def settings_of(config: RunConfig, *, style_refs: int = 20, bank: int = 1, size: int | None = None, on_gpu: bool = True) -> MemorySettings:
    """The memory settings of a configuration, on a GPU of ``size`` bytes (None: unknown) or on the CPU.

    ``style_refs`` is the number of StyleRef pictures, ``bank`` that of the prompts to draw.
    """
    method, training = method_for(config.method), config.training
    source = config.aux.source or method.preserves
    preserves = source != "none" and method.prior_weight > 0
    aux = {"generated": config.aux.generated_count, "curated": config.aux.count, "target": style_refs}.get(source, 0) if preserves else 0
    variety = Variety.of(training, method)
    changed = style_refs * (1 + len(variety.transforms))
    height, width = config.sampling.height, config.sampling.width
    own = [template for concept in method.concepts for template in (concept.prompt, *concept.more_prompts)]
    templates = own + [concept.aux_prompt for concept in method.concepts if preserves or method.leaves_style_out]
    captioned = any("{caption}" in template for template in templates)
    prompts = changed * (len(own) // len(method.concepts)) + aux if captioned else len(set(templates)) * (1 + len(variety.transforms))
    precision, usual = config.base.precision, "bf16" if on_gpu else "fp32"
    denoiser, text_encoders = (usual if each == "auto" else each for each in (precision.denoiser, precision.text_encoders))
    return MemorySettings(
        recipe=method.recipe, instances=training.batch_size, aux=(training.aux_batch_size or training.batch_size) if preserves else 0,
        repeated=training.batch_size * ((method.loss.name == "guided") + method.distills), asks_base=method.asks_base,
        accumulation=training.gradient_accumulation, checkpointing=training.gradient_checkpointing, half=training.mixed_precision,
        optimizer=training.optimizer, average=training.ema_decay > 0, cache_latents=training.cache_latents, cache_text=training.cache_text,
        pictures=(changed + aux) * len(variety.views()) + VALIDATED, prompts=prompts + (training.caption_dropout > 0),
        validation_prompts=len(training.validation_prompts), watches=config.selection.patience is not None,
        sampling_batch=config.sampling.batch_size,
        resolution=training.resolution, drawn=round((height * width) ** 0.5) if height and width else height or width,
        guidance=config.sampling.guidance, formula=config.sampling.guidance_formula or method.guidance,
        bank=bank, scoring_batch=config.scoring.batch_size, captioner=config.captions.precision or usual,
        described=config.captions.batch_size, answer=config.captions.max_tokens,
        denoiser=Storage(denoiser, config.base.offload), text_encoders=Storage(text_encoders),
        vae=Storage("fp32" if precision.vae == "auto" else precision.vae), weights=training.weights,
        staged=on_gpu and training.processes == 1, size=size, on_gpu=on_gpu,
    )  # fmt: skip
