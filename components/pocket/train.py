"""Train the pocket bases, part by part.

``unet`` is trained from scratch: VAE, evaluator, UNet with its text encoder, in that order; then the polished decoder and the probe.
``flow`` starts from the UNet base's VAE and text encoder: the widened VAE, the transformer with two text encoders, then the decoder.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
)
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from components.core.content import digest_folder
from components.core.errors import InputError
from components.core.paths import atomic_file, atomic_folder, read_json, state, write_json
from components.pocket import train_flow
from components.pocket.bases import BASES, BaseName
from components.pocket.probe import train_probe
from components.pocket.render import LOOKS, QUALIFIED, cached_set
from components.pocket.tokenizer import stored_tokenizer
from components.pocket.train_evaluator import train_evaluator
from components.pocket.train_unet import NOISE, mirrored, train_unet, whole_captions
from components.pocket.train_vae import encode, new_vae, polish_decoder, train_vae, widened_vae

TRAIN_PICTURES, QUALIFIED_PICTURES, EVALUATOR_PICTURES = 40_000, 40_000, 27_000


@dataclass(frozen=True)
class Plan:
    """Where the training of a base reads and writes.

    ``out`` is for the weights, ``pictures`` for the rendered sets of all bases, ``work`` for this base's checkpoints, latents and loss
    logs.
    """

    base: BaseName
    out: Path
    pictures: Path
    work: Path
    workers: int
    device: str | None
    go_on: bool

    @property
    def weights(self) -> Path:
        """Folder of the base's weights, in diffusers layout."""
        return self.out / BASES[self.base].folder


def train(
    out: Path,
    *,
    base: BaseName = "unet",
    parts: Sequence[str] | None = None,
    minutes: dict[str, float] | None = None,
    work: Path | None = None,
    device: str | None = None,
    go_on: bool = False,
) -> Path:
    """Train the given parts, resuming each where it stopped, and write their weights into ``out``.

    Args:
        base: one of BASES.
        parts: any of the base's parts, default all; a finished part is only loaded.
        minutes: time budget per part; default the base's.
        work: folder of rendered pictures, checkpoints and loss logs; default ``pocket-training`` in STYLEFORGE_HOME.
        go_on: where there is no checkpoint, start denoiser and text encoders from the weights in ``out`` (and keep their VAE).
    """
    budgets = BASES[base].minutes | (minutes or {})
    for part in parts or ():
        if part not in BASES[base].minutes:
            raise InputError(f"--part {part}", f"no such part of the {base} base", expected=f"one of {', '.join(BASES[base].minutes)}")
    pictures = work or state("pocket-training")
    plan = Plan(base, out, pictures, pictures if base == "unet" else pictures / base, os.cpu_count() or 1, device, go_on)
    plan.work.mkdir(parents=True, exist_ok=True)
    for part in BASES[base].minutes:
        if part in (parts or budgets):
            _TRAIN[part](plan, 60 * budgets[part])
    return out


def _vae(plan: Plan, budget: float) -> None:
    data = cached_set(plan.pictures, "train", TRAIN_PICTURES, workers=plan.workers)
    if plan.base == "unet":
        vae = train_vae(new_vae(), data.pixels, plan.work, budget, plan.device)
    else:
        learnt = AutoencoderKL.from_pretrained(_of_the_unet_base(plan) / "vae", torch_dtype=torch.float32)
        vae = widened_vae(learnt, train_flow.LATENTS)
        # A higher rate would undo what the VAE has learnt before it learns more.
        vae = train_vae(vae, data.pixels, plan.work, budget, plan.device, rate=3e-4, shifted=True)
    with atomic_folder(plan.work / "vae") as temporary:
        vae.save_pretrained(temporary)


def _of_the_unet_base(plan: Plan) -> Path:
    """The folder of the UNet base, whose VAE, tokenizer and text encoder the flow base starts from."""
    folder = plan.out / BASES["unet"].folder
    if not folder.is_dir():
        raise InputError(
            "--base flow", f"no UNet base in {plan.out}", expected="its VAE, tokenizer and text encoder to begin from",
            remedy="run `styleforge pocket train` with the same --out first, or leave --out away",
        )  # fmt: skip
    return folder


def _evaluator(plan: Plan, budget: float) -> None:
    data = cached_set(plan.pictures, "evaluator", EVALUATOR_PICTURES, LOOKS, plan.workers)
    tokenizer = _tokenizer(plan)
    model = train_evaluator(data, tokenizer, plan.work, budget, plan.device)
    with atomic_folder(plan.out / "evaluator") as temporary:
        model.half().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        half = [0.5, 0.5, 0.5]
        CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=64, image_mean=half, image_std=half).save_pretrained(temporary)


def _tokenizer(plan: Plan) -> CLIPTokenizer:
    """The UNet base's tokenizer; when going on from existing weights with none in ``work`` yet, it is taken from those weights."""
    if plan.base == "flow":
        return stored_tokenizer(_of_the_unet_base(plan) / "tokenizer")
    kept, given = plan.work / "tokenizer", plan.weights / "tokenizer"
    return stored_tokenizer(given if plan.go_on and given.is_dir() and not kept.is_dir() else kept)


def _trained_vae(plan: Plan, part: str) -> tuple[AutoencoderKL, Path]:
    """The VAE that the latents come from, and its folder: the one trained in ``work``, else that of the weights to go on from."""
    for folder in [plan.work / "vae", *([plan.weights / "vae"] if plan.go_on else [])]:
        if folder.is_dir():
            return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval(), folder
    raise InputError(
        f"--part {part}", f"no trained VAE in {plan.work}", expected="the vae part first", remedy=f"run with --part vae --part {part}"
    )


def _examples(plan: Plan, vae: AutoencoderKL, digest: str, tokenizer: CLIPTokenizer) -> tuple[torch.Tensor, list[str]]:
    """Latents and captions of all training pictures whose captions are not truncated."""
    latents, captions = [], []
    for name, count, media, mirror in (("train", TRAIN_PICTURES, None, True), ("qualified", QUALIFIED_PICTURES, (QUALIFIED,), False)):
        data = cached_set(plan.pictures, name, count, media, plan.workers)
        latents.append(cached_latents(plan.work, vae, f"{name}-{count}-{digest[:16]}", data.pixels, mirror=mirror))
        captions += data.captions
    whole = whole_captions(tokenizer, captions)
    return torch.cat(latents)[whole], [captions[index] for index in whole]


def _unet(plan: Plan, budget: float) -> None:
    (vae, folder), tokenizer = _trained_vae(plan, "unet"), _tokenizer(plan)
    latents, captions = _examples(plan, vae, digest_folder(folder), tokenizer)
    unet, text = train_unet(latents, captions, tokenizer, plan.work, budget, plan.device, plan.weights if plan.go_on else None)
    save_base(plan.weights, vae, unet, text, tokenizer)


def _transformer(plan: Plan, budget: float) -> None:
    (vae, folder), tokenizer = _trained_vae(plan, "transformer"), _tokenizer(plan)
    latents, captions = _examples(plan, vae, digest_folder(folder), tokenizer)
    first, start = _of_the_unet_base(plan) / "text_encoder", plan.weights if plan.go_on else None
    save_flow(
        plan.weights, vae, train_flow.train_flow(latents, captions, tokenizer, plan.work, budget, plan.device, first, start), tokenizer
    )


def cached_latents(work: Path, vae: AutoencoderKL, name: str, pixels: NDArray[np.uint8], *, mirror: bool) -> torch.Tensor:
    """Latents (N, C, 16, 16) fp16, shifted and scaled, of pictures (N, 64, 64, 3), cached in ``work``; ``name`` identifies the VAE too.

    With ``mirror``, half of the pictures are mirrored, so that nothing has a fixed side; this is not for looks in words, which name the
    side that the light comes from.
    """
    path = work / f"latents-{name}.npy"
    if not path.exists():
        half = len(pixels) // 2 if mirror else len(pixels)
        latents = encode(vae, np.concatenate([pixels[:half], mirrored(pixels[half:])]))
        with atomic_file(path) as temporary:
            np.save(temporary, ((latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor).half().numpy())
    return torch.from_numpy(np.load(path))


def _decoder(plan: Plan, budget: float) -> None:
    if not plan.weights.is_dir():
        raise InputError("--part decoder", f"no trained {plan.base} base in {plan.out}", expected="the parts before it first")
    data = cached_set(plan.pictures, "train", TRAIN_PICTURES, workers=plan.workers)
    vae = polish_decoder(_trained_vae(plan, "decoder")[0], data.pixels, plan.work, budget, plan.device)
    with atomic_folder(plan.weights / "vae") as temporary:
        vae.half().save_pretrained(temporary)
        _forget_origin(temporary / "config.json")


def _probe(plan: Plan, budget: float) -> None:
    train_probe(cached_set(plan.pictures, "evaluator", EVALUATOR_PICTURES, LOOKS, plan.workers), plan.work, budget, plan.device).save(
        plan.out / "probe"
    )


_TRAIN = {"vae": _vae, "evaluator": _evaluator, "unet": _unet, "transformer": _transformer, "decoder": _decoder, "probe": _probe}


def save_base(folder: Path, vae: AutoencoderKL, unet: torch.nn.Module, text: torch.nn.Module, tokenizer: object) -> None:
    """Write the parts as a Stable Diffusion pipeline: see :func:`_write`."""
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
    """Write the ``trained`` transformer and text encoders with the VAE as a Stable Diffusion 3 pipeline without T5: see :func:`_write`."""
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
        scheduler=FlowMatchEulerDiscreteScheduler(**train_flow.FLOW),
    )
    _write(pipeline, folder)


def _write(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Write a pipeline in diffusers layout: fp16 safetensors in files of at most 14 MB."""
    with atomic_folder(folder) as temporary:
        pipeline.to(dtype=torch.float16).save_pretrained(temporary, max_shard_size="14MB")
        for file in temporary.glob("*/config.json"):
            _forget_origin(file)


def _forget_origin(file: Path) -> None:
    """Remove the path that a part was loaded from: it is specific to this machine and has no place in the weights."""
    write_json(file, {key: value for key, value in read_json(file).items() if key != "_name_or_path"})
