"""Train the pocket base from nothing: VAE, evaluator, UNet with its text encoder, in that order; then polish the decoder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil

from components.core.content import digest_folder
from components.core.errors import InputError
from components.core.paths import atomic_file, atomic_folder, read_json, state, write_json
from components.pocket.probe import train_probe
from components.pocket.render import LOOKS, QUALIFIED, cached_set
from components.pocket.tokenizer import stored_tokenizer
from components.pocket.train_evaluator import train_evaluator
from components.pocket.train_unet import NOISE, mirrored, train_unet, whole_captions
from components.pocket.train_vae import encode, polish_decoder, train_vae

PARTS = ("vae", "evaluator", "unet", "decoder", "probe")
MINUTES = {"vae": 75.0, "evaluator": 90.0, "unet": 240.0, "decoder": 45.0, "probe": 15.0}
"""Default time budgets in minutes, for two CPU cores: under 8 hours in all."""
TRAIN_PICTURES, QUALIFIED_PICTURES, EVALUATOR_PICTURES = 40_000, 40_000, 27_000


@dataclass(frozen=True)
class Plan:
    """Where a training reads and writes: ``out`` gets the weights, ``work`` holds pictures, checkpoints and loss logs."""

    out: Path
    work: Path
    workers: int
    device: str | None
    go_on: bool


def train(
    out: Path,
    *,
    parts: Sequence[str] = PARTS,
    minutes: dict[str, float] | None = None,
    work: Path | None = None,
    device: str | None = None,
    go_on: bool = False,
) -> Path:
    """Train the given parts (resuming each where it was) and write ``out/base``, ``out/evaluator`` and ``out/probe``.

    Args:
        parts: any of PARTS; a finished part is only loaded.
        minutes: time budget per part; default MINUTES.
        work: folder of rendered pictures, checkpoints and loss logs; default ``pocket-training`` in the home.
        go_on: where there is no checkpoint, begin UNet and text encoder from the weights in ``out`` (and keep their VAE).
    """
    for part in parts:
        if part not in PARTS:
            raise InputError(f"--part {part}", "no such part", expected=f"one of {', '.join(PARTS)}")
    plan = Plan(out, work or state("pocket-training"), os.cpu_count() or 1, device, go_on)
    for part in PARTS:
        if part in parts:
            _TRAIN[part](plan, 60 * (minutes or {}).get(part, MINUTES[part]))
    return out


def _vae(plan: Plan, budget: float) -> None:
    data = cached_set(plan.work, "train", TRAIN_PICTURES, workers=plan.workers)
    vae = train_vae(data.pixels, plan.work, budget, plan.device)
    with atomic_folder(plan.work / "vae") as temporary:
        vae.save_pretrained(temporary)


def _evaluator(plan: Plan, budget: float) -> None:
    data = cached_set(plan.work, "evaluator", EVALUATOR_PICTURES, LOOKS, plan.workers)
    tokenizer = stored_tokenizer(_tokenizer_folder(plan))
    model = train_evaluator(data, tokenizer, plan.work, budget, plan.device)
    with atomic_folder(plan.out / "evaluator") as temporary:
        model.half().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        half = [0.5, 0.5, 0.5]
        CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=64, image_mean=half, image_std=half).save_pretrained(temporary)


def _tokenizer_folder(plan: Plan) -> Path:
    """Where the tokenizer lies: with the weights to go on with, where nothing was begun here."""
    kept, given = plan.work / "tokenizer", plan.out / "base" / "tokenizer"
    return given if plan.go_on and given.is_dir() and not kept.is_dir() else kept


def _vae_folder(plan: Plan) -> Path:
    """The VAE that the UNet's latents come from: the one just trained, or the one to go on with."""
    for folder in [plan.work / "vae", *([plan.out / "base" / "vae"] if plan.go_on else [])]:
        if folder.is_dir():
            return folder
    raise InputError(
        "--part unet", f"no trained VAE in {plan.work}", expected="the vae part first", remedy="run with --part vae --part unet"
    )


def _unet(plan: Plan, budget: float) -> None:
    vae = AutoencoderKL.from_pretrained(_vae_folder(plan), torch_dtype=torch.float32).eval()
    digest = digest_folder(_vae_folder(plan))
    latents, captions = [], []
    for name, count, media, mirror in (("train", TRAIN_PICTURES, None, True), ("qualified", QUALIFIED_PICTURES, (QUALIFIED,), False)):
        data = cached_set(plan.work, name, count, media, plan.workers)
        latents.append(cached_latents(plan.work, vae, f"{name}-{count}-{digest[:16]}", data.pixels, mirror=mirror))
        captions += data.captions
    tokenizer = stored_tokenizer(_tokenizer_folder(plan))
    whole = whole_captions(tokenizer, captions)
    unet, text = train_unet(
        torch.cat(latents)[whole],
        [captions[index] for index in whole],
        tokenizer,
        plan.work,
        budget,
        plan.device,
        plan.out / "base" if plan.go_on else None,
    )
    save_base(plan.out / "base", vae, unet, text, tokenizer)


def cached_latents(work: Path, vae: AutoencoderKL, name: str, pixels: NDArray[np.uint8], *, mirror: bool) -> torch.Tensor:
    """Scaled latents (N, 8, 16, 16) fp16 of pictures (N, 64, 64, 3), kept in ``work`` under ``name``, which names the VAE too.

    With ``mirror`` half of them are mirrored, so that nothing has a fixed side; looks in words, which name the light's side, are not.
    """
    path = work / f"latents-{name}.npy"
    if not path.exists():
        half = len(pixels) // 2 if mirror else len(pixels)
        latents = encode(vae, np.concatenate([pixels[:half], mirrored(pixels[half:])]))
        with atomic_file(path) as temporary:
            np.save(temporary, (latents * vae.config.scaling_factor).half().numpy())
    return torch.from_numpy(np.load(path))


def _decoder(plan: Plan, budget: float) -> None:
    if not (plan.out / "base" / "unet").is_dir():
        raise InputError("--part decoder", f"no trained base in {plan.out}", expected="the vae and unet parts first")
    data = cached_set(plan.work, "train", TRAIN_PICTURES, workers=plan.workers)
    vae = polish_decoder(
        AutoencoderKL.from_pretrained(_vae_folder(plan), torch_dtype=torch.float32), data.pixels, plan.work, budget, plan.device
    )
    with atomic_folder(plan.out / "base" / "vae") as temporary:
        vae.half().save_pretrained(temporary)
        _forget_origin(temporary / "config.json")


def _probe(plan: Plan, budget: float) -> None:
    train_probe(cached_set(plan.work, "evaluator", EVALUATOR_PICTURES, LOOKS, plan.workers), plan.work, budget, plan.device).save(
        plan.out / "probe"
    )


_TRAIN = {"vae": _vae, "evaluator": _evaluator, "unet": _unet, "decoder": _decoder, "probe": _probe}


def save_base(folder: Path, vae: AutoencoderKL, unet: torch.nn.Module, text: torch.nn.Module, tokenizer: object) -> None:
    """Write the parts as a Stable Diffusion pipeline in diffusers layout: fp16 safetensors, files of at most 14 MB."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with atomic_folder(folder) as temporary:
        pipeline.to(dtype=torch.float16).save_pretrained(temporary, max_shard_size="14MB")
        for file in temporary.glob("*/config.json"):
            _forget_origin(file)


def _forget_origin(file: Path) -> None:
    """Where a part was loaded from is a path of this machine: it has no place in the weights."""
    write_json(file, {key: value for key, value in read_json(file).items() if key != "_name_or_path"})
