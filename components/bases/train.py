"""Train the embedded bases, part by part, on the pictures of a world.

``pocket`` is trained from scratch: VAE, evaluator, UNet with its text encoder, in that order; then the polished decoder and the probe.
``pocket-flow`` starts from its VAE and text encoder: the widened VAE, the transformer with two text encoders, then the decoder.
``art`` starts from the VAE of ``pocket-flow``; its text encoders are trained alone first, and its evaluator and probe are of its own world.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from transformers import CLIPImageProcessorPil, CLIPTextModelWithProjection, CLIPTokenizer

from components.bases import train_flow
from components.bases.bases import BASES, BaseName, EmbeddedBase
from components.bases.probe import train_probe
from components.bases.saving import save_base, save_flow, save_vae
from components.bases.tokenizer import read_tokenizer, stored_tokenizer
from components.bases.train_evaluator import train_evaluator
from components.bases.train_text import train_text
from components.bases.train_unet import mirrored, train_unet, whole_captions
from components.bases.train_vae import encode, new_vae, polish_decoder, train_vae, widened_vae
from components.core.content import digest_folder
from components.core.errors import InputError
from components.core.paths import atomic_file, atomic_folder, state
from components.core.world import RenderedSet, World


@dataclass(frozen=True)
class Plan:
    """What is trained, and where its training reads and writes.

    ``out`` is for the weights, ``pictures`` for the rendered sets of the world, ``work`` for this base's checkpoints, latents and loss
    logs.
    """

    base: EmbeddedBase
    world: World
    out: Path
    pictures: Path
    work: Path
    device: str | None
    go_on: bool

    @property
    def weights(self) -> Path:
        """Folder of the base's weights, in diffusers layout."""
        return self.out / self.base.weights.base

    def origin(self) -> Path:
        """Folder of the base that this one starts from."""
        name = self.base.origin
        assert name is not None
        folder = self.out / BASES[name].weights.base
        if not folder.is_dir():
            raise InputError(
                self.base.model, f"no {name} base in {self.out}",
                expected="its weights to begin from",
                remedy=f"run `styleforge base train {name}` with the same --out first, or leave --out away",
            )  # fmt: skip
        return folder

    def data(self, purpose: str) -> RenderedSet:
        """The pictures of a purpose, kept in ``pictures`` so that an interrupted training does not render again."""
        count = self.world.sets[purpose]
        path = self.pictures / f"{purpose}-{count}.npz"
        if not path.exists():
            made = self.world.render(purpose, count, os.cpu_count() or 1)
            with atomic_file(path) as temporary:
                captions, descriptions = np.array(made.captions), np.array(made.descriptions)
                np.savez(temporary, pixels=made.pixels, labels=made.labels, captions=captions, descriptions=descriptions)
        with np.load(path, allow_pickle=False) as stored:
            return RenderedSet(stored["pixels"], stored["captions"].tolist(), stored["descriptions"].tolist(), stored["labels"])


def train(
    out: Path,
    world: World,
    *,
    base: BaseName = "pocket",
    parts: Sequence[str] | None = None,
    minutes: dict[str, float] | None = None,
    work: Path | None = None,
    device: str | None = None,
    go_on: bool = False,
) -> Path:
    """Train the given parts, resuming each where it stopped, and write their weights into ``out``.

    Args:
        world: the base's world.
        base: one of BASES.
        parts: any of the base's parts; default all, with ``go_on`` denoiser and decoder. A finished part is only loaded.
        minutes: time budget per part; default the base's.
        work: folder of rendered pictures, checkpoints and loss logs; default ``base-training`` in STYLEFORGE_HOME.
        go_on: where there is no checkpoint, start denoiser and text encoders from the weights in ``out``, and keep their latents.
    """
    chosen = BASES[base]
    budgets = chosen.minutes | (minutes or {})
    wanted = parts or ([chosen.denoiser, "decoder"] if go_on else list(budgets))
    for part in wanted:
        if part not in chosen.minutes:
            raise InputError(f"--part {part}", f"no such part of {base}", expected=f"one of {', '.join(chosen.minutes)}")
        if go_on and part in _FIXED:
            raise InputError(
                f"--part {part}", f"a new one would be useless to the denoiser that --continue keeps ({_FIXED[part]})",
                expected=f"one of {', '.join(name for name in chosen.minutes if name not in _FIXED)}",
            )  # fmt: skip
    top = work or state("base-training")
    plan = Plan(chosen, world, out, top / f"{chosen.world}-pictures", top / base, device, go_on)
    plan.work.mkdir(parents=True, exist_ok=True)
    for part in chosen.minutes:
        if part in wanted:
            _TRAIN[part](plan, 60 * budgets[part])
    return out


def _vae(plan: Plan, budget: float) -> None:
    pixels = np.concatenate([plan.data(name).pixels for name in ("train", "qualified")])
    if plan.base.origin is None:
        vae = train_vae(new_vae(), pixels, plan.work, budget, plan.device)
    else:
        learnt = AutoencoderKL.from_pretrained(plan.origin() / "vae", torch_dtype=torch.float32)
        vae = widened_vae(learnt, train_flow.LATENTS)
        # A higher rate would undo what the VAE has learnt before it learns more.
        vae = train_vae(vae, pixels, plan.work, budget, plan.device, rate=3e-4, shifted=True)
    with atomic_folder(plan.work / "vae") as temporary:
        vae.save_pretrained(temporary)


def _evaluator(plan: Plan, budget: float) -> None:
    tokenizer = _tokenizer(plan)
    model = train_evaluator(plan.world, plan.data("evaluator"), tokenizer, plan.work, budget, plan.device)
    with atomic_folder(plan.out / plan.base.weights.evaluator) as temporary:
        model.half().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        half = [0.5, 0.5, 0.5]
        CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size=64, image_mean=half, image_std=half).save_pretrained(temporary)


def _tokenizer(plan: Plan) -> CLIPTokenizer:
    """The world's tokenizer, kept in ``work``; going on from existing weights begins with theirs, whatever was kept before."""
    if plan.base.origin and BASES[plan.base.origin].world == plan.base.world:
        return read_tokenizer(plan.origin() / "tokenizer")
    kept, given = plan.work / "tokenizer", plan.weights / "tokenizer"
    begun = kept.is_dir() and (plan.work / f"{plan.base.denoiser}-checkpoint.pt").is_file()
    if plan.go_on and given.is_dir() and not begun:
        with atomic_folder(kept) as temporary:
            read_tokenizer(given).save_pretrained(temporary)
    return stored_tokenizer(kept, plan.world.corpus)


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
    for name in ("train", "qualified"):
        data, key = plan.data(name), f"{name}-{plan.world.sets[name]}-{digest[:16]}"
        latents.append(cached_latents(plan.work, vae, key, data.pixels, mirror=name in plan.world.mirrored))
        captions += data.captions
    whole = whole_captions(tokenizer, captions)
    return torch.cat(latents)[whole], [captions[index] for index in whole]


def _unet(plan: Plan, budget: float) -> None:
    (vae, folder), tokenizer = _trained_vae(plan, "unet"), _tokenizer(plan)
    latents, captions = _examples(plan, vae, digest_folder(folder), tokenizer)
    unet, text = train_unet(latents, captions, tokenizer, plan.work, budget, plan.device, plan.weights if plan.go_on else None)
    save_base(plan.weights, vae, unet, text, tokenizer)


def _text(plan: Plan, budget: float) -> None:
    (vae, folder), tokenizer = _trained_vae(plan, "text"), _tokenizer(plan)
    latents, captions = _examples(plan, vae, digest_folder(folder), tokenizer)
    for number, encoder in enumerate(train_text(latents, captions, tokenizer, plan.work, budget, plan.device)):
        with atomic_folder(plan.work / f"text-{number}") as temporary:
            encoder.save_pretrained(temporary)


def _transformer(plan: Plan, budget: float) -> None:
    (vae, folder), tokenizer = _trained_vae(plan, "transformer"), _tokenizer(plan)
    latents, captions = _examples(plan, vae, digest_folder(folder), tokenizer)

    def fresh() -> train_flow.Networks:
        if plan.go_on:
            return train_flow.read_networks(plan.weights)
        if "text" in plan.base.minutes:
            return train_flow.new_transformer(), *(
                CLIPTextModelWithProjection.from_pretrained(_trained_text(plan, number), torch_dtype=torch.float32) for number in (0, 1)
            )
        return train_flow.new_transformer(), *train_flow.new_text_encoders(tokenizer, plan.origin() / "text_encoder")

    save_flow(plan.weights, vae, train_flow.train_flow(latents, captions, tokenizer, plan.work, budget, plan.device, fresh), tokenizer)


def _trained_text(plan: Plan, number: int) -> Path:
    folder = plan.work / f"text-{number}"
    if not folder.is_dir():
        remedy = "run with --part text --part transformer"
        raise InputError("--part transformer", f"no trained text encoders in {plan.work}", expected="the text part first", remedy=remedy)
    return folder


def cached_latents(work: Path, vae: AutoencoderKL, name: str, pixels: NDArray[np.uint8], *, mirror: bool) -> torch.Tensor:
    """Latents (N, C, 16, 16) fp16, shifted and scaled, of pictures (N, 64, 64, 3), cached in ``work``; ``name`` identifies the VAE too.

    With ``mirror``, half of the pictures are mirrored, so that nothing has a fixed side.
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
        raise InputError("--part decoder", f"no trained {plan.base.model} base in {plan.out}", expected="the parts before it first")
    vae = polish_decoder(_trained_vae(plan, "decoder")[0], plan.data("train").pixels, plan.work, budget, plan.device)
    save_vae(plan.weights / "vae", vae)


def _probe(plan: Plan, budget: float) -> None:
    probe = train_probe(plan.world, plan.data("evaluator"), plan.work, budget, plan.device)
    probe.save(plan.out / plan.base.weights.probe)


_FIXED = {"vae": "it predicts latents of the old one", "text": "they are trained on with it"}
"""Parts that a denoiser is bound to, and why."""
_TRAIN = {
    "vae": _vae, "evaluator": _evaluator, "unet": _unet, "text": _text, "transformer": _transformer, "decoder": _decoder, "probe": _probe,
}  # fmt: skip
