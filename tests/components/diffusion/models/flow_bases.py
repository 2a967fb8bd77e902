"""The tiny base of each flow family, and how diffusers' own pipeline of it is asked: what ``test_flow_families`` runs over.

A further family is one more row here, and its tiny base in ``tests/tiny_bases.py``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.tiny_bases import tiny_flux2_folder, tiny_flux_folder, tiny_lumina2_folder, tiny_sd3_folder, tiny_z_image_folder

Size = tuple[int, int]
SQUARE = (32, 32)
Velocity = Callable[[Any, torch.Tensor, torch.Tensor, Sequence[str], dict[str, Any]], torch.Tensor]


@dataclass(frozen=True)
class FlowBase:
    """``velocity`` gives ε − x₀, by a pipeline's own parts, of noisy latents at levels σ for as many prompts.

    ``told`` goes to ``from_pretrained``, ``asked`` to the pipeline's call and to ``velocity``. ``shift`` is the factor of the noise's
    odds in training, for 32 pixels. ``guidance`` says a guidance of ours to the pipeline. ``given`` and ``taken`` turn latents
    into the pipeline's form and back, the latter for a size (height, width); ``clean`` makes them of a VAE's mean and a draw.
    ``negative`` says whether it takes such a prompt.
    """

    make: Callable[[Path], Path]
    velocity: Velocity
    shift: float
    told: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    guidance: Callable[[float], dict[str, Any]] = lambda scale: {"guidance_scale": scale}
    given: Callable[[Any, torch.Tensor], torch.Tensor] = lambda pipeline, latents: latents
    taken: Callable[[Any, torch.Tensor, Size], torch.Tensor] = lambda pipeline, latents, size: latents
    clean: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor] = lambda pipeline, mean, drawn: (
        (drawn - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor
    )
    negative: bool = True
    trains_text: bool = True


def _sd3(pipeline: Any, noisy: torch.Tensor, level: torch.Tensor, prompts: Sequence[str], asked: dict[str, Any]) -> torch.Tensor:
    states, _, pooled, _ = pipeline.encode_prompt(list(prompts), None, None, do_classifier_free_guidance=False, device="cpu", **asked)
    velocity: torch.Tensor = pipeline.transformer(noisy, states, pooled, 1000 * level).sample
    return velocity


def _pack(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    packed: torch.Tensor = pipeline._pack_latents(latents, *latents.shape)
    return packed


def _unpack(pipeline: Any, tokens: torch.Tensor, size: Size = SQUARE) -> torch.Tensor:
    latents: torch.Tensor = pipeline._unpack_latents(tokens, *size, pipeline.vae_scale_factor)
    return latents


def _flux(pipeline: Any, noisy: torch.Tensor, level: torch.Tensor, prompts: Sequence[str], asked: dict[str, Any]) -> torch.Tensor:
    states, pooled, text_ids = pipeline.encode_prompt(list(prompts), None, device="cpu", **asked)
    ids = pipeline._prepare_latent_image_ids(4, 8, 8, "cpu", torch.float32)
    guidance = torch.ones(len(noisy)) if pipeline.transformer.config.guidance_embeds else None
    return _unpack(pipeline, pipeline.transformer(_pack(pipeline, noisy), states, pooled, level, ids, text_ids, guidance).sample)


def _z_image(pipeline: Any, noisy: torch.Tensor, level: torch.Tensor, prompts: Sequence[str], asked: dict[str, Any]) -> torch.Tensor:
    states, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    return -torch.stack(pipeline.transformer(list(noisy.unsqueeze(2)), 1 - level, states).sample).squeeze(2)


def _normalised(pipeline: Any, squares: torch.Tensor) -> torch.Tensor:
    """Squares of the VAE's latents, by the statistics that it keeps of them."""
    kept = pipeline.vae.bn
    center, spread = (each.view(1, -1, 1, 1) for each in (kept.running_mean, (kept.running_var + kept.eps).sqrt()))
    return (squares - center) / spread


def _squares(pipeline: Any, latents: torch.Tensor, size: Size = SQUARE) -> torch.Tensor:
    return _normalised(pipeline, pipeline._patchify_latents(latents))


def _klein(pipeline: Any, noisy: torch.Tensor, level: torch.Tensor, prompts: Sequence[str], asked: dict[str, Any]) -> torch.Tensor:
    states, text_ids = pipeline.encode_prompt(list(prompts), device="cpu")
    ids = pipeline._prepare_latent_ids(noisy)
    tokens = pipeline.transformer(pipeline._pack_latents(noisy), states, level, ids, text_ids).sample
    velocity: torch.Tensor = pipeline._unpack_latents_with_ids(tokens, ids)
    return velocity


def _lumina2(pipeline: Any, noisy: torch.Tensor, level: torch.Tensor, prompts: Sequence[str], asked: dict[str, Any]) -> torch.Tensor:
    states, mask, _, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False)
    prediction: torch.Tensor = pipeline.transformer(noisy, 1 - level, states, mask).sample
    return -prediction


_NO_T5: dict[str, Any] = {"text_encoder_3": None, "tokenizer_3": None}
# 64 tokens: μ lies on the line through 0.5 at 256 and 1.15 at 4,096.
_DYNAMIC = math.exp(0.5 - 192 * 0.65 / 3840)
_PACKED: dict[str, Any] = {"given": _pack, "taken": _unpack}
BASES = {
    "sd3": FlowBase(tiny_sd3_folder, _sd3, 3.0, asked={"max_sequence_length": 256}),
    "sd3-no-t5": FlowBase(lambda path: tiny_sd3_folder(path, t5=False), _sd3, 3.0, _NO_T5, {"max_sequence_length": 256}),
    # As wide as its CLIPs: it has never seen a T5, so nothing stands for one.
    "sd3-small": FlowBase(lambda path: tiny_sd3_folder(path, t5=False, wide=False), _sd3, 3.0, _NO_T5, {"max_sequence_length": 0}),
    "flux-dev": FlowBase(tiny_flux_folder, _flux, _DYNAMIC, asked={"max_sequence_length": 512}, **_PACKED),
    # Without a guidance embedding, guidance is that of Ho & Salimans (2022).
    "flux-schnell": FlowBase(
        lambda path: tiny_flux_folder(path, guided=False), _flux, 1.0, asked={"max_sequence_length": 256},
        guidance=lambda scale: {"true_cfg_scale": scale}, **_PACKED,
    ),
    "flux2-klein": FlowBase(
        tiny_flux2_folder, _klein, math.exp(0.00016927 * 64 + 0.45666666), taken=_squares,
        clean=lambda pipeline, mean, drawn: _normalised(pipeline, mean), negative=False, trains_text=False,
    ),
    "z-image": FlowBase(
        tiny_z_image_folder, _z_image, 6.0, guidance=lambda scale: {"guidance_scale": scale - 1}, trains_text=False
    ),
    # Its pipeline writes nothing before a negative prompt, and normalises guidance unless told not to.
    "lumina2": FlowBase(tiny_lumina2_folder, _lumina2, 6.0, asked={"cfg_normalization": False}, negative=False, trains_text=False),
}  # fmt: skip
