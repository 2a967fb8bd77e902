"""The memory of each step of a run on one GPU: weights, gradients, optimizer, average, activations and caches."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from components.core.config import PLAIN, SamplingSection
from components.diffusion.models.families import ROOM
from components.diffusion.models.precision import PLAIN_DTYPES, weight_bytes
from components.diffusion.planning.captioner import caption
from components.diffusion.planning.phases import Peak, Phases, away_layers, fetched_layers, score
from components.diffusion.planning.records import MemoryPlan, PartCount, StepMemory
from components.diffusion.planning.settings import MemorySettings, Storage
from components.diffusion.planning.shapes import family_from_configuration
from components.diffusion.sampling.guidance import branches_of
from components.diffusion.training.caches import ENCODE_BATCH
from components.diffusion.training.optimizers import state_bytes
from components.diffusion.training.trainables import Trainables

VAE, TEXT = "vae", "text_encoder"
"""How the names of these parts start in every family."""
COPIES = 12
"""Bytes per number of the largest tensor while bf16 weights are updated: weight, gradient and update in fp32."""


class Planner:
    """Makes memory plans for one base. Traces are remembered, so that many settings can be tried.

    ``base`` is a folder with the base's configuration in diffusers layout, ``extractor`` one with that of the CLIP that scores,
    ``captioner`` one with that of the model that writes captions (None: scoring or captions are left out). Weights are not read.
    """

    def __init__(self, base: Path, extractor: Path | None = None, captioner: Path | None = None) -> None:
        self._base, self._extractor, self._captioner = base, extractor, captioner
        self._known: dict[Any, Any] = {}

    def plan(self, settings: MemorySettings) -> MemoryPlan:
        """The plan of a run.

        Raises:
            InputError: no network can be built from the configuration.
            ConfigError: the method trains layers that the base does not have.
        """
        traced = self._trained(settings)
        family = traced.family
        assert traced.trained is not None
        own = traced.trained.named()
        counts = {name: _count(name, part, settings.of(name), own) for name, part in family.parts.items()}
        side = settings.resolution or family.resolution
        drawn = -(-(settings.drawn or family.resolution) // family.size_step) * family.size_step
        # A method may train nothing.
        steps = [*self._captions(settings), *(self._training(settings, side, drawn, traced, counts) if own else ())]
        steps.append(self._sampling(settings, drawn))
        if (scored := self._scoring(settings)) is not None:
            steps.append(scored)
        return MemoryPlan(family.layout.title, side, counts, tuple(steps))

    def _captions(self, settings: MemorySettings) -> Iterator[StepMemory]:
        if (folder := self._captioner) is not None:
            asked = (settings.captioner, settings.described, settings.answer)
            yield self._once(("caption", *asked), lambda: caption(folder, *asked))

    def _training(
        self, settings: MemorySettings, side: int, drawn: int, traced: Phases, counts: Mapping[str, PartCount]
    ) -> Iterator[StepMemory]:
        assert traced.trained is not None
        own = traced.trained.named()
        latents, prompt = self._latents(settings, side), self._prompt(settings)
        caches_text = settings.cache_text and not traced.trained.parts.keys() & traced.family.text_encoders.keys()
        moments = settings.pictures * latents.kept if settings.cache_latents else 0
        caches = moments + (settings.prompts * prompt.kept if caches_text and not settings.on_gpu else 0)
        moving = sum(value.nbytes for value in own.values())
        average, initial = moving if settings.average else 0, moving if settings.asks_base else 0

        def weights(*working: str) -> int:
            """Bytes of the parts whose names start with ``working``; of all parts if they do not take turns on the GPU."""
            return sum(part.weights for name, part in counts.items() if not settings.staged or name.startswith(working))

        if settings.cache_latents:
            yield StepMemory("cache latents", weights(VAE), activations=latents.most, caches=moments)
        if caches_text:
            yield StepMemory("cache prompts", weights(TEXT), activations=prompt.most, caches=caches)
        optimizer = int(sum(state_bytes(settings.optimizer, value.shape) for value in own.values()))
        state: dict[str, Any] = {"optimizer": optimizer, "average": average, "caches": caches}
        working = (traced.family.layout.denoiser, *(() if settings.cache_latents else (VAE,)), *(() if caches_text else (TEXT,)))
        peak = self._train(settings, side, traced)
        copies = COPIES * max(value.numel() for value in own.values()) if settings.weights == "bf16" else 0
        yield StepMemory("train", weights(*working) + initial, peak.gradients, activations=max(peak.most - peak.gradients, copies), **state)
        seen = min(settings.validated, max(settings.micro_batch, 4))
        validates = traced.predict(seen, side, settings.half).most
        if not caches_text:
            validates = max(validates, traced.encode_prompts(min(seen, settings.prompts), settings.half).most)
        if not settings.cache_latents:
            validates = max(validates, self._latents(settings, side, settings.validated).most)
        yield StepMemory("validate", weights(*working) + initial, activations=validates, **state)
        if settings.watches:
            draws = self._drawing(settings, drawn, settings.sampling_batch).most
            yield StepMemory("draw candidates", weights(traced.family.layout.denoiser, VAE) + initial, activations=draws, **state)
            if (scored := self._scoring(settings)) is not None:
                held = weights(*working) + initial + scored.weights
                yield StepMemory("score candidates", held, activations=scored.activations, **state)
        # If weights are held differently from their files, the base is loaded again for these samples, and they are drawn on the CPU.
        as_files = all(storage == Storage() for storage in settings.storage) and settings.weights == "fp32"
        if (count := min(settings.validation_prompts, settings.sampling_batch)) and as_files:
            draws = self._drawing(settings, side, count).most
            yield StepMemory("draw samples", weights(traced.family.layout.denoiser, VAE) + initial, activations=draws, **state)

    def _scoring(self, settings: MemorySettings) -> StepMemory | None:
        if (extractor := self._extractor) is None:
            return None
        peak, weights = self._once(("score", settings.scoring_batch), lambda: score(extractor, settings.scoring_batch))
        return StepMemory("score", weights, activations=peak.most)

    def _sampling(self, settings: MemorySettings, side: int) -> StepMemory:
        """Drawing: on a GPU, prompts' states wait in the host's memory; parts take turns if together they are too large."""
        family = self._plain(settings).family
        counts = {name: _count(name, part, settings.of(name), {}).weights for name, part in family.parts.items()}
        # A method that trains nothing denoises a picture of the style along with the others.
        together = settings.sampling_batch + (not settings.recipe.trains)
        prompt, drawn = self._prompt(settings), self._drawing(settings, side, together)
        # Branches with the base's weights need a copy of the base.
        copies = 2 if settings.formula and settings.formula.base_branches else 1
        states, everything = 0 if settings.on_gpu else settings.bank * prompt.kept, copies * sum(counts.values())
        if settings.size is None or everything <= ROOM * settings.size:
            return StepMemory("sample", everything, activations=max(drawn.most, prompt.most), caches=states)
        texts = copies * sum(weights for name, weights in counts.items() if name.startswith(TEXT))
        reads = StepMemory("sample", texts, activations=prompt.most, caches=states)
        draws = StepMemory("sample", everything - texts, activations=drawn.most, caches=states)
        return max(reads, draws, key=lambda step: step.total)

    def _latents(self, settings: MemorySettings, side: int, count: int = ENCODE_BATCH) -> Peak:
        return self._once(("latents", count, side), lambda: self._plain(settings).encode_latents(count, side))

    def _prompt(self, settings: MemorySettings) -> Peak:
        return self._once(("prompt", settings.storage), lambda: self._plain(settings).encode_prompts())

    def _drawing(self, settings: MemorySettings, side: int, count: int) -> Peak:
        half, plain = "bf16" if settings.on_gpu else "no", self._plain(settings)
        guidance = settings.guidance or plain.family.drawing(SamplingSection()).guidance
        formula = settings.formula or PLAIN
        of_base = set(formula.base_branches)
        names = [name for name in branches_of(formula, guidance) if name not in of_base]
        branches = 1 if plain.family.guidance_embedded else max(len(names), len(of_base))
        key = ("draw", settings.storage, side, count, branches, half)
        return self._once(key, lambda: plain.predict(count, side, half, branches=branches, decodes=True))

    def _train(self, settings: MemorySettings, side: int, traced: Phases) -> Peak:
        key = (
            "train", settings.recipe, settings.storage, settings.weights, side, settings.micro_batch, settings.predicted,
            min(settings.accumulation, 2), settings.checkpointing, settings.half, settings.cache_latents, settings.cache_text,
            min(settings.prompts, settings.predicted),
        )  # fmt: skip
        return self._once(key, lambda: traced.train(settings, side))

    def _plain(self, settings: MemorySettings) -> Phases:
        return self._once(("plain", settings.storage), lambda: Phases(family_from_configuration(self._base), settings))

    def _trained(self, settings: MemorySettings) -> Phases:
        """The family with the method's parameter sets: one with checkpointing and one without, since it stays on once enabled."""

        def make() -> Phases:
            family = family_from_configuration(self._base)
            return Phases(family, settings, Trainables(family, settings.recipe, weights=PLAIN_DTYPES[settings.weights]))

        return self._once(("trained", settings.recipe, settings.storage, settings.weights, settings.checkpointing), make)

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
    away, sizes = away_layers(part, storage), dict[int, float]()
    for layer in fetched_layers(part, storage):
        for value in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)):
            sizes[id(value)] = 0.0 if layer in away else value.nbytes
        if layer not in away:
            weight = layer.get_parameter("weight")
            sizes[id(weight)] = weight_bytes(storage.kind, weight.shape)
    values = (*part.parameters(), *part.buffers())
    return int(sum(value.nbytes if id(value) in own else sizes.get(id(value), value.nbytes) for value in values))
