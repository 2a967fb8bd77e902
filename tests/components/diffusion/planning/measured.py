"""What training and drawing really allocate on the CPU, by the allocator's own record."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.profiler import ProfilerActivity, profile, record_function

from components.core.config import RunConfig
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.families import Family
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import draw_pictures
from components.diffusion.training.loop import Trainer
from components.diffusion.training.methods import method_for
from components.diffusion.training.samples import read_training_set
from tests.components.diffusion.conftest import Folders

MARK = "phase: "


def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, whose calls stand in the record by this name."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with record_function(MARK + name):
            return function(*args, **kwargs)

    return wrapper


def measure(config: RunConfig, folders: Folders, root: Path, *, pictures: int = 0) -> dict[str, int]:
    """Most bytes at once by phase: two training steps with a validation, or, with ``pictures``, so many drawn."""
    # What was there before the record begins leaves it unseen.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        bundle = load_bundle(config.base.model, device="cpu")
        weights = own_weights(bundle.family)
        with record_function(MARK + "loaded"):
            pass
        if pictures:
            prompt = method_for(config.method).concepts[0].aux_prompt
            requests = [PromptRequest(str(index), "", prompt, prompt) for index in range(pictures)]
            with record_function(MARK + "sample"):
                list(draw_pictures(bundle, requests, config.sampling, 0))
        else:
            train(config, folders, bundle, root)
    peaks = by_phase(record)
    # What was read of the files may stay a while, in the host's memory.
    files = peaks.pop("loaded") - weights
    return {name: peak - files for name, peak in peaks.items()}


def train(config: RunConfig, folders: Folders, bundle: Bundle, root: Path) -> None:
    """Fill the caches and make two steps."""
    method = method_for(config.method)
    trainer = Trainer(config, method, read_training_set(*folders.inputs, method, seed=config.seed), bundle, root)
    latents, prompts = trainer.denoising.latents, trainer.denoising.prompts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latents, "fill", named(latents.fill, "cache latents"))
        patch.setattr(prompts, "encode", named(prompts.encode, "cache prompts"))
        trainer._encode_all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_update", named(trainer._update, "train"))
        patch.setattr(trainer.denoising, "validation", named(trainer.denoising.validation, "validate"))
        trainer._step(1)
        trainer._step(2)


def own_weights(family: Family) -> int:
    """Take the weights from files that are mapped into memory, of which the allocator knows nothing; returns their bytes."""
    tensors = [tensor for part in family.parts.values() for tensor in (*part.parameters(), *part.buffers())]
    for tensor in tensors:
        tensor.data = tensor.data.clone()
    return sum(tensor.nbytes for tensor in tensors)


def by_phase(record: profile) -> dict[str, int]:
    """The highest level of memory within each named phase."""
    assert record.profiler is not None and record.profiler.kineto_results is not None
    events = sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    spans = [(event.name()[len(MARK) :], event.start_ns(), event.end_ns()) for event in events if event.name().startswith(MARK)]
    level, peaks = 0, {name: 0 for name, _, _ in spans}
    for event in events:
        if event.name() == "[memory]":
            level += event.nbytes()
            for name, start, end in spans:
                if start <= event.start_ns() <= end:
                    peaks[name] = max(peaks[name], level)
        elif event.name().startswith(MARK):
            peaks[event.name()[len(MARK) :]] = max(peaks[event.name()[len(MARK) :]], level)
    return peaks
