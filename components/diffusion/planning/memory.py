"""The memory of each step of a run on one GPU: weights, gradients, optimizer, average, activations and caches."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from components.core.config import SamplingSection
from components.diffusion.planning.phases import Peak, Phases, matrices, score
from components.diffusion.planning.records import MemoryPlan, PartCount, StepMemory
from components.diffusion.planning.settings import BITS, MemorySettings, Storage
from components.diffusion.planning.shapes import family_from_configuration
from components.diffusion.training.caches import ENCODE_BATCH
from components.diffusion.training.optimizers import state_bytes
from components.diffusion.training.trainables import Trainables

VAE, TEXT = "vae", "text_encoder"
"""How the names of these parts begin in every family."""
BLOCKS_AT_ONCE = 2
"""Offloaded blocks that lie on the GPU: the one that works, and the next."""


class Planner:
    """Plans for one base; what was traced once is remembered, so that settings can be tried.

    ``base`` is a folder with the base's configuration in diffusers layout, ``extractor`` one with that of the CLIP that scores (None:
    scoring is left out). Weights are not read.
    """

    def __init__(self, base: Path, extractor: Path | None = None) -> None:
        self._base, self._extractor = base, extractor
        self._known: dict[Any, Any] = {}

    def plan(self, settings: MemorySettings) -> MemoryPlan:
        """The plan of a run.

        Raises:
            InputError: no network can be made of the configuration.
            ConfigError: the method asks for layers that the base does not have.
        """
        traced = self._trained(settings)
        family = traced.family
        assert traced.trained is not None
        own = traced.trained.named()
        counts = {name: _count(name, part, settings.of(name), own) for name, part in family.parts.items()}
        side = settings.resolution or family.resolution
        drawn = -(-(settings.drawn or family.resolution) // family.size_step) * family.size_step
        steps = [*self._training(settings, side, traced, counts), self._sampling(settings, drawn)]
        if (extractor := self._extractor) is not None:
            peak, weights = self._once(("score", settings.scoring_batch), lambda: score(extractor, settings.scoring_batch))
            steps.append(StepMemory("score", weights, activations=peak.most))
        return MemoryPlan(family.layout.title, side, counts, tuple(steps))

    def _training(self, settings: MemorySettings, side: int, traced: Phases, counts: Mapping[str, PartCount]) -> Iterator[StepMemory]:
        assert traced.trained is not None
        own = traced.trained.named()
        latents, prompt = self._latents(settings, side), self._prompt(settings)
        caches_text = settings.cache_text and not traced.trained.parts.keys() & traced.family.text_encoders.keys()
        moments = settings.pictures * latents.kept if settings.cache_latents else 0
        caches = moments + (settings.prompts * prompt.kept if caches_text else 0)
        average = sum(value.nbytes for value in own.values()) if settings.average else 0

        def weights(*working: str) -> int:
            """Of the parts that work, by the beginnings of their names; of all, where parts do not come and go."""
            return sum(part.weights for name, part in counts.items() if not settings.staged or name.startswith(working))

        if settings.cache_latents:
            yield StepMemory("cache latents", weights(VAE), activations=latents.most, caches=moments)
        if caches_text:
            yield StepMemory("cache prompts", weights(TEXT), activations=prompt.most, caches=caches)
        optimizer = int(sum(state_bytes(settings.optimizer, value.shape) for value in own.values()))
        state: dict[str, int] = {"optimizer": optimizer, "average": average, "caches": caches}
        working = (traced.family.layout.denoiser, *(() if settings.cache_latents else (VAE,)), *(() if caches_text else (TEXT,)))
        peak = self._train(settings, side, traced)
        yield StepMemory("train", weights(*working), peak.gradients, activations=peak.most - peak.gradients, **state)
        seen = min(settings.validated, max(settings.micro_batch, 4))
        validates = self._predict(settings, side, seen, settings.half).most
        if not caches_text:
            read = min(seen, settings.prompts)
            key = ("prompts", settings.storage, read, settings.half)
            plain = self._plain(settings)
            validates = max(validates, self._once(key, lambda: plain.encode_prompts(read, settings.half)).most)
        if not settings.cache_latents:
            validates = max(validates, self._latents(settings, side, settings.validated).most)
        yield StepMemory("validate", weights(*working), activations=validates, **state)
        if count := min(settings.validation_prompts, settings.sampling_batch):
            drawn = self._drawing(settings, side, count)
            yield StepMemory("draw samples", weights(traced.family.layout.denoiser, VAE), activations=drawn.most, **state)

    def _sampling(self, settings: MemorySettings, side: int) -> StepMemory:
        """The states of all prompts stay on the GPU until the last picture is drawn."""
        family = self._plain(settings).family
        counts = {name: _count(name, part, settings.of(name), {}).weights for name, part in family.parts.items()}
        prompt, drawn = self._prompt(settings), self._drawing(settings, side, settings.sampling_batch)
        states = settings.bank * prompt.kept
        if not settings.staged:
            return StepMemory("sample", sum(counts.values()), activations=max(drawn.most, prompt.most), caches=states)
        texts = sum(weights for name, weights in counts.items() if name.startswith(TEXT))
        reads = StepMemory("sample", texts, activations=prompt.most, caches=states)
        draws = StepMemory("sample", sum(counts.values()) - texts, activations=drawn.most, caches=states)
        return max(reads, draws, key=lambda step: step.total)

    def _latents(self, settings: MemorySettings, side: int, count: int = ENCODE_BATCH) -> Peak:
        return self._once(("latents", count, side), lambda: self._plain(settings).encode_latents(count, side))

    def _prompt(self, settings: MemorySettings) -> Peak:
        return self._once(("prompt", settings.storage), lambda: self._plain(settings).encode_prompts())

    def _predict(self, settings: MemorySettings, side: int, count: int, half: str) -> Peak:
        key = ("predict", settings.storage, side, count, half)
        return self._once(key, lambda: self._plain(settings).predict(count, side, half))

    def _drawing(self, settings: MemorySettings, side: int, count: int) -> Peak:
        half, plain = "bf16" if settings.draws_half else "no", self._plain(settings)
        guided = (settings.guidance or plain.family.drawing(SamplingSection()).guidance) != 1.0
        key = ("draw", settings.storage, side, count, guided, half)
        return self._once(key, lambda: plain.predict(count, side, half, guided=guided, decodes=True))

    def _train(self, settings: MemorySettings, side: int, traced: Phases) -> Peak:
        key = (
            "train", settings.recipe, settings.storage, side, settings.micro_batch, min(settings.accumulation, 2), settings.checkpointing,
            settings.half, settings.cache_latents, settings.cache_text, min(settings.prompts, settings.micro_batch),
        )  # fmt: skip
        return self._once(key, lambda: traced.train(settings, side))

    def _plain(self, settings: MemorySettings) -> Phases:
        return self._once(("plain", settings.storage), lambda: Phases(family_from_configuration(self._base), settings))

    def _trained(self, settings: MemorySettings) -> Phases:
        """Checkpointing stays on once it is, so that there is one family with it and one without."""

        def make() -> Phases:
            family = family_from_configuration(self._base)
            return Phases(family, settings, Trainables(family, settings.recipe))

        return self._once(("trained", settings.recipe, settings.storage, settings.checkpointing), make)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _count(name: str, part: torch.nn.Module, storage: Storage, trained: Mapping[str, torch.nn.Parameter]) -> PartCount:
    own = {id(value) for key, value in trained.items() if key.startswith(f"{name}.")}
    parameters = sum(value.numel() for value in part.parameters())
    moving = sum(value.numel() for value in part.parameters() if id(value) in own)
    return PartCount(parameters, moving, weights_on_gpu(part, storage, own))


def weights_on_gpu(part: torch.nn.Module, storage: Storage, own: set[int]) -> int:
    """Bytes of a part's parameters and buffers on the GPU; ``own`` are the ids of those that train."""
    packed = {id(weight) for weight in matrices(part, storage)}

    def size(value: torch.Tensor) -> float:
        if id(value) in own or not value.is_floating_point():
            return value.nbytes
        return value.numel() * (BITS[storage.kind] if id(value) in packed else min(8.0 * value.element_size(), 32.0)) / 8

    total = sum(size(value) for value in (*part.parameters(), *part.buffers()))
    if storage.offloaded:
        blocks = [sum(size(value) for value in block.parameters()) for block in _blocks(part)]
        away = storage.offloaded * sum(blocks)
        total -= max(0.0, away - BLOCKS_AT_ONCE * max(blocks, default=0.0))
    return int(total)


def _blocks(part: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The blocks that one after the other can come from the host: the members of a network's own lists."""
    for child in part.children():
        if isinstance(child, torch.nn.ModuleList):
            yield from child
