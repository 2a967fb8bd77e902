"""The style model's folder: diffusers layout, ``styleforge.json``, and the training's log."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from components.core.config import RunConfig
from components.core.content import digest_value
from components.core.devices import default_device
from components.core.images import load_rgb
from components.core.model_card import as_scored
from components.core.paths import atomic_folder, link_or_copy, read_jsonl, write_json, write_jsonl
from components.diffusion.export.candidates import write_candidates
from components.diffusion.export.exported import compare_exported
from components.diffusion.export.formats import write_formats
from components.diffusion.models.bundle import Bundle
from components.diffusion.models.deltas import CARD, DELTA_FILE, REFERENCE_FILE, StylePicture
from components.diffusion.models.precision import settle
from components.diffusion.sampling.requests import picture_request
from components.diffusion.sampling.sampler import draw_pictures
from components.diffusion.training.checkpoints import save_tensors
from components.diffusion.training.methods import Method
from components.diffusion.training.optimizers import learning_rate
from components.diffusion.training.previews import preview_requests
from components.diffusion.training.samples import Sample

SCHEMA = 1
LIBRARIES = ("styleforge", "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors")


@dataclass(frozen=True)
class Timing:
    """What a training used: wall time, the number of images over all processes, and the step that it resumed from.

    ``gpu`` is for training in several processes: the GPUs' name and the most memory in bytes that one process had allocated, which
    cannot be seen from outside.
    """

    seconds: float
    images: int
    resumed_from: int
    gpu: tuple[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """The content of ``training/timing.json``."""
        rate = self.images / self.seconds if self.seconds else 0.0
        gpu = {"device": self.gpu[0], "peak_memory_bytes": self.gpu[1]} if self.gpu else {}
        rates = {"seconds": round(self.seconds, 3), "images_per_second": round(rate, 2)}
        return {**rates, "images": self.images, "resumed_from": self.resumed_from, **gpu}


@dataclass(frozen=True)
class Made:
    """What a training produced along the way: a file for each candidate, by step, and previews."""

    candidates: Mapping[int, Path]
    previews: Sequence[Path]


def write_model(
    config: RunConfig, method: Method, bundle: Bundle, trained: Mapping[str, torch.Tensor], style_set: Path, out: Path,
    log: list[dict[str, Any]], timing: Timing, made: Made, aligned_to: Sample | None = None,
) -> None:  # fmt: skip
    """Write the finished style model, all files or none: the whole model, or a delta of ``trained`` alone; and files for other programs.

    ``aligned_to`` is the StyleRef picture that drawings are aligned to, for a method that does so.
    Everything in the folder except ``training/timing.json`` is a function of the run's inputs.
    """
    with atomic_folder(Path(out)) as folder:
        if method.save == "delta":
            save_tensors(folder / DELTA_FILE, trained)
        else:
            bundle.save(folder)
        files = write_formats(folder, trained, method.recipe, bundle.family.layout)
        card = describe(config, method, bundle, style_set)
        if log and log[-1]["step"] < config.training.steps:
            card["training"]["ended_at"] = log[-1]["step"]
        if aligned_to:
            load_rgb(aligned_to.file).save(folder / REFERENCE_FILE)
            prompt = picture_request(card, config.sampling, "reference", aligned_to.caption or "").full_prompt
            card["reference_prompt"], bundle.aligned_to = prompt, StylePicture(folder / REFERENCE_FILE, prompt)
        write_json(folder / CARD, {**card, "files": files})
        write_candidates(folder, made.candidates, card)
        for preview in made.previews:
            link_or_copy(preview, folder / "training" / "previews" / preview.name)
        write_jsonl(folder / "training" / "log.jsonl", log)
        write_json(folder / "training" / "timing.json", timing.as_json())
        if requests := preview_requests(config, method):
            device = default_device()
            bundle.family.lower(settle(config.base.precision, device), device, config.base.offload).to(device)
            for request, picture in draw_pictures(bundle, requests, config.sampling, config.seed):
                picture.save(folder / "training" / f"{request.id}.png")
            compare_exported(folder, config, requests)


def describe(config: RunConfig, method: Method, bundle: Bundle, style_set: Path) -> dict[str, Any]:
    """The content of ``styleforge.json``: how the model was made, and how to draw with it."""
    manifest = read_jsonl(Path(style_set) / "manifest.jsonl")
    return {
        "schema": SCHEMA,
        "method": method.name,
        "identifier": method.tokens[0],
        "concepts": [concept.as_json() for concept in method.concepts],
        "save": method.save,
        "recipe": method.recipe.as_json(),
        "style": config.style.name,
        "base": {
            "model": config.base.model,
            "revision": config.base.revision,
            "digest": bundle.digest,
            "pipeline": bundle.family.layout.pipeline,
            "memory": config.base.model_dump(mode="json", include={"precision", "offload"}),
        },
        "manifest_digest": digest_value(manifest),
        "style_ref_pictures": sum(row.get("split") == "style_ref" and not row.get("problem") for row in manifest),
        "seed": config.seed,
        "training": {
            **config.training.model_dump(mode="json"),
            "learning_rate": learning_rate(config.training, method.learning_rate),
            "prior_weight": method.prior_weight,
            "trains": sorted(method.trains),
        },
        "sampling": as_scored(config.sampling) | vars(bundle.family.drawing(config.sampling)),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of the libraries that made the model."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
