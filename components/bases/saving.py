"""Trained parts as pipelines in diffusers layout: fp16 safetensors in files of at most 14 MB, with no path of the machine in them."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)

from components.bases.train_flow import FLOW
from components.bases.train_unet import NOISE
from components.core.paths import atomic_folder, read_json, write_json


def save_base(folder: Path, vae: AutoencoderKL, unet: torch.nn.Module, text: torch.nn.Module, tokenizer: object) -> None:
    """Write the parts as a Stable Diffusion pipeline."""
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
    _write(pipeline, folder)


def save_flow(folder: Path, vae: AutoencoderKL, trained: tuple[torch.nn.Module, ...], tokenizer: object) -> None:
    """Write the ``trained`` transformer and text encoders with the VAE as a Stable Diffusion 3 pipeline without T5."""
    transformer, text, text_2 = trained
    pipeline = StableDiffusion3Pipeline(
        vae=vae,
        transformer=transformer,
        text_encoder=text,
        tokenizer=tokenizer,
        text_encoder_2=text_2,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
        scheduler=FlowMatchEulerDiscreteScheduler(**FLOW),
    )
    _write(pipeline, folder)


def save_vae(folder: Path, vae: AutoencoderKL) -> None:
    """Write a VAE alone."""
    with atomic_folder(folder) as temporary:
        vae.half().save_pretrained(temporary)
        _forget_origin(temporary / "config.json")


def _write(pipeline: DiffusionPipeline, folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        pipeline.to(dtype=torch.float16).save_pretrained(temporary, max_shard_size="14MB")
        for file in temporary.glob("*/config.json"):
            _forget_origin(file)


def _forget_origin(file: Path) -> None:
    """Remove the path that a part was loaded from: it is specific to this machine and has no place in the weights."""
    write_json(file, {key: value for key, value in read_json(file).items() if key != "_name_or_path"})
