"""Writes a tiny model as one file in the layout of the original checkpoints, with what real ones hold besides."""

from pathlib import Path
from typing import Any

KINDS = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}
SIZES: dict[str, tuple[dict[str, Any], int]] = {
    "sd1": (
        {
            "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768,
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        },
        686,
    ),
    "sdxl": (
        {
            "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "transformer_layers_per_block": (1, 2, 10),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), "use_linear_projection": True,
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
        },
        1680,
    ),
    "vae": (
        {
            "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
            "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        },
        248,
    ),
}  # fmt: skip
"""Settings of networks of the published sizes, and how many tensors the published files hold of each."""


def write_original(folder: Path, file: Path, kind: str) -> Path:
    """Write the model in ``folder`` (diffusers layout) as one safetensors file; ``kind`` is ``sd1``, ``sd2`` or ``sdxl``."""
    import torch
    from safetensors.torch import save_file

    from components.diffusion.export.original import kind_of, original_tensors
    from components.diffusion.models.bundle import load_bundle

    family = load_bundle(folder, device="cpu").family
    tensors = original_tensors(family)
    # Real ones carry the training's leftovers too, and no mark of v-prediction.
    tensors.pop("v_pred", None)
    for name in ("alphas_cumprod", "betas", "model_ema.decay", "model_ema.num_updates", "logit_scale"):
        tensors[name] = torch.ones(2)
    if kind != "sd2":
        tensors[f"{kind_of(family).prefixes['text_encoder']}text_model.embeddings.position_ids"] = torch.arange(32)[None]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    return file
