"""What models of each family look like on disk: parts, their classes, and the marks of the original one-file layout. Only data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layout:
    """A family's folder in diffusers layout.

    ``pipeline`` is the class that ``model_index.json`` names, ``title`` what people call the family; ``parts`` gives each
    sub-folder's library and class, in the order in which digests count them. The scheduler's class is any. ``network`` is the
    part that denoises.
    """

    pipeline: str
    title: str
    parts: Mapping[str, tuple[str, str]]
    network: str = "unet"

    @property
    def networks(self) -> tuple[str, ...]:
        """The parts that have weights."""
        return tuple(part for part in self.parts if part in (self.network, "vae") or part.startswith("text_encoder"))


_CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", ""),
}
STABLE_DIFFUSION_XL = Layout("StableDiffusionXLPipeline", "Stable Diffusion XL", _CLASSES)
STABLE_DIFFUSION = Layout(
    "StableDiffusionPipeline", "Stable Diffusion 1.x/2.x", {part: cls for part, cls in _CLASSES.items() if not part.endswith("_2")}
)
# Where a configuration gives no size it is Stable Diffusion 1.x, of 512 pixels.
_USUAL_LATENTS = 64
LAYOUTS = {layout.pipeline: layout for layout in (STABLE_DIFFUSION, STABLE_DIFFUSION_XL)}
TITLES = " or ".join(layout.title for layout in LAYOUTS.values())


def latent_size(unet: Mapping[str, Any]) -> tuple[int, int]:
    """(h, w) of the latents, by a UNet's configuration, which gives one side or both."""
    side = unet.get("sample_size") or _USUAL_LATENTS
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return int(height), int(width)


def downsampling(vae: Mapping[str, Any]) -> int:
    """Pixels a latent along one side, by a VAE's configuration."""
    return int(2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1))


@dataclass(frozen=True)
class FileKind:
    """A kind of one-file checkpoint in the original layout.

    ``prefixes`` begin the names of the tensors of each network that the file must hold. ``configuration`` is the hub id and
    the pinned commit of a folder with the kind's configuration and tokenizers; None where files of the kind differ in what
    only a configuration says.
    """

    title: str
    layout: Layout
    prefixes: Mapping[str, str]
    configuration: tuple[str, str] | None


_UNET_AND_VAE = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
# The first kind whose text encoders are all there is the file's.
FILE_KINDS = (
    FileKind(
        "Stable Diffusion XL",
        STABLE_DIFFUSION_XL,
        {**_UNET_AND_VAE, "text_encoder": "conditioner.embedders.0.transformer.", "text_encoder_2": "conditioner.embedders.1.model."},
        ("stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b"),
    ),
    FileKind(
        "Stable Diffusion 1.x",
        STABLE_DIFFUSION,
        {**_UNET_AND_VAE, "text_encoder": "cond_stage_model.transformer."},
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"),
    ),
    # 2.0 and 2.1 come with ε- and with v-prediction, at 512 and 768 pixels, and the weights do not tell which.
    FileKind("Stable Diffusion 2.x", STABLE_DIFFUSION, {**_UNET_AND_VAE, "text_encoder": "cond_stage_model.model."}, None),
)
# What is often taken for a base, by the beginning of a tensor's name.
NO_BASES = {
    "lora_unet_": "a LoRA",
    "lora_te": "a LoRA",
    "conditioner.embedders.0.model.": "the Stable Diffusion XL refiner",
    "control_model.": "a ControlNet",
    "emb_params": "a textual-inversion embedding",
    "clip_l": "a textual-inversion embedding",
    "double_blocks.": "a Flux transformer",
    "model.diffusion_model.double_blocks.": "a Flux checkpoint",
    "model.diffusion_model.joint_blocks.": "a Stable Diffusion 3 checkpoint",
}
