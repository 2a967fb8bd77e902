"""Peak memory of training, drawing and scoring besides weights and optimizer state, one phase at a time, see ``tracing``."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from components.core.paths import read_json
from components.diffusion.models.conditioning import Conditioning
from components.diffusion.models.families import Family
from components.diffusion.models.precision import blocks, held_layers, is_away, lower
from components.diffusion.objectives.losses import per_sample_loss
from components.diffusion.planning.settings import QUANTIZED, MemorySettings, Storage
from components.diffusion.planning.tracing import META, GpuFunctions, LiveBytes, backward, on_gpu
from components.diffusion.training.trainables import Trainables

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Peak:
    """The most bytes held at once, of which ``gradients`` stay until the optimizer's step.

    ``kept`` is what a cache then holds per picture or prompt.
    """

    most: int
    gradients: int = 0
    kept: int = 0


class Phases:
    """The phases of a run, on a family on the meta device whose frozen weights are stored as the settings say.

    ``trained`` is what trains (None: nothing), already inserted into the family.
    """

    def __init__(self, family: Family, settings: MemorySettings, trained: Trainables | None = None) -> None:
        self.family, self.trained = family, trained
        self._keeps = settings.checkpointing and trained is not None
        self._fetched: list[torch.Tensor] = []
        for name, part in family.parts.items():
            whole, storage = trained is not None and name in trained.whole, settings.of(name)
            # Quantized precisions are for storage only: a GPU computes in bf16.
            packed = "bf16" if settings.on_gpu else "fp32"
            lower(part, settings.weights if whole else packed if storage.kind in QUANTIZED else storage.kind, META)
            self._fetched += [] if whole else [layer.get_parameter("weight") for layer in fetched_layers(part, storage)]

    @contextlib.contextmanager
    def _watch(self, half: str = "no") -> Iterator[tuple[LiveBytes, GpuFunctions]]:
        """Count what is allocated within the block, under autocast to ``half``."""
        live = LiveBytes(tensor for part in self.family.parts.values() for tensor in (*part.parameters(), *part.buffers()))
        with on_gpu(TYPES.get(half), self._fetched, keeps=self._keeps) as functions, live:
            yield live, functions

    def encode_latents(self, count: int, side: int) -> Peak:
        """The VAE encodes ``count`` pictures; ``kept`` are the moments of one."""
        with self._watch() as (live, _):
            moments = self.family.encode_images(torch.empty((count, 3, side, side), device=META))
        return Peak(live.peak, kept=moments.nbytes // count)

    def encode_prompts(self, count: int = 1, half: str = "no") -> Peak:
        """The text encoders encode ``count`` prompts at once (one, if they are cached); ``kept`` is the conditioning of one."""
        with torch.no_grad(), self._watch(half) as (live, _):
            conditioning = self._encode(count)
        return Peak(live.peak, kept=_bytes(conditioning) // count)

    def train(self, settings: MemorySettings, side: int) -> Peak:
        """Forward and backward pass of a micro-batch; with accumulation, of two, since the first leaves its gradients."""
        assert self.trained is not None
        parts, encoders = self.trained.parts, self.family.text_encoders
        if settings.checkpointing:
            self.family.denoiser.enable_gradient_checkpointing()
            for name in parts.keys() & encoders.keys():
                encoders[name].gradient_checkpointing_enable()
        moving = {name: part for name, part in parts.items() if name in encoders}
        with torch.no_grad(), self._watch():
            cached = None if moving or not settings.cache_text else self._encode(settings.predicted)
        with self._watch(settings.half) as (live, functions):
            for _ in range(min(settings.accumulation, 2)):
                loss = self._loss(settings, side, cached, moving)
                functions.end_block()
                backward(loss)
                del loss
        gradients = sum(value.grad.nbytes for value in self.trained.named().values() if value.grad is not None)
        for value in self.trained.named().values():
            value.grad = None
        return Peak(live.peak, gradients)

    def _loss(
        self, settings: MemorySettings, side: int, cached: Conditioning | None, moving: Mapping[str, torch.nn.Module]
    ) -> torch.Tensor:
        """The loss as ``Denoising.loss`` computes it; ``moving`` are the text encoders that train."""
        count = settings.predicted
        if not settings.cache_latents:
            self.family.encode_images(torch.empty((settings.micro_batch, 3, side, side), device=META))
        unique = min(count, settings.prompts)
        with torch.set_grad_enabled(bool(moving)):
            conditioning = cached or self._encode(unique, moving)
        prediction = self._predict(self._latents(count, side), conditioning)
        return per_sample_loss(prediction, self._latents(count, side)).sum()

    def predict(self, count: int, side: int, half: str, *, branches: int = 1, decodes: bool = False) -> Peak:
        """The denoiser predicts ``count`` pictures for each of the guidance's ``branches``; with ``decodes`` the VAE then decodes them."""
        with torch.no_grad(), self._watch():
            conditioning = self._encode(branches * count)
        with torch.no_grad(), self._watch(half) as (live, _):
            latents = self._latents(count, side)
            self._predict(torch.cat([latents] * branches) if branches > 1 else latents, conditioning)
            if decodes:
                self.family.decode_latents(latents)
        return Peak(live.peak)

    def _predict(self, latents: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        index = torch.zeros(len(latents), dtype=torch.long, device=META)
        return self.family.predict(latents, torch.empty(len(latents), device=META), conditioning.index_select(index))

    def _latents(self, count: int, side: int) -> torch.Tensor:
        return torch.empty((count, *self.family.latent_shape(side, side)), device=META)

    def _encode(self, count: int, encoders: Mapping[str, torch.nn.Module] | None = None) -> Conditioning:
        ids = {name: rows.to(META) for name, rows in self.family.tokenize([""] * count).items()}
        return self.family.encode_tokens(ids, encoders)


def score(folder: Path, batch: int) -> tuple[Peak, int]:
    """A CLIP model encodes pictures, then prompts: the peak, and the bytes of its weights. ``folder`` holds its ``config.json``."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig.from_dict(read_json(folder / "config.json"))
    with META:
        clip = CLIPModel._from_config(config, dtype=torch.float32).eval()
    weights = [*clip.parameters(), *clip.buffers()]
    side, length = config.vision_config.image_size, config.text_config.max_position_embeddings
    live = LiveBytes(weights)
    with torch.no_grad(), on_gpu(), live:
        clip.get_image_features(pixel_values=torch.empty((batch, 3, side, side), device=META))
        ids = torch.zeros((batch, length), dtype=torch.long, device=META)
        clip.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids))
    return Peak(live.peak), sum(tensor.nbytes for tensor in weights)


def fetched_layers(part: torch.nn.Module, storage: Storage) -> list[torch.nn.Module]:
    """The layers of a part whose frozen matrices are fetched for each product, being quantized or in the host's memory."""
    away = away_layers(part, storage)
    return [layer for layer in held_layers(part) if storage.kind in QUANTIZED or layer in away]


def away_layers(part: torch.nn.Module, storage: Storage) -> set[torch.nn.Module]:
    """The layers of the blocks that are offloaded to the host's memory, see ``precision.lower``."""
    return {layer for index, block in enumerate(blocks(part)) if is_away(index, storage.offloaded) for layer in block.modules()}


def _bytes(conditioning: Conditioning) -> int:
    values = (getattr(conditioning, item.name) for item in fields(conditioning))
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))
