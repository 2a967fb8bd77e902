"""Write a model in the original one-file layout, which AUTOMATIC1111 and ComfyUI load.

:mod:`components.diffusion.models.loading` reads such files;
:data:`components.diffusion.models.layouts.WHOLE_KINDS` tells their kinds apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from components.core.errors import InputError
from components.diffusion.models.families import Family
from components.diffusion.models.layouts import WHOLE_KINDS, FileKind
from components.diffusion.models.loading import V_PREDICTION_MARK
from components.diffusion.training.checkpoints import save_tensors

Tensors = Mapping[str, torch.Tensor]
ZERO_SNR_MARK = "ztsnr"
OPEN_CLIP_PREFIX = ".model."
"""Ending of a text encoder's prefix if it is written with OpenCLIP's names; others keep the names of CLIP in transformers."""

_UNET_ENDS = {
    "time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2.", "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.", "conv_out.": "out.2.", "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
}  # fmt: skip
_RESNET = {
    "norm1.": "in_layers.0.", "conv1.": "in_layers.2.", "time_emb_proj.": "emb_layers.1.", "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.", "conv_shortcut.": "skip_connection.",
}  # fmt: skip
_VAE_ENDS = {
    "quant_conv.": "quant_conv.", "post_quant_conv.": "post_quant_conv.",
    **{f"{half}.{old}.": f"{half}.{new}." for half in ("encoder", "decoder")
       for old, new in {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}.items()},
}  # fmt: skip
_VAE_RESNET = {"norm1.": "norm1.", "conv1.": "conv1.", "norm2.": "norm2.", "conv2.": "conv2.", "conv_shortcut.": "nin_shortcut."}
_VAE_ATTENTION = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
_OPEN_CLIP_ENDS = {
    "embeddings.position_embedding.weight": "positional_embedding", "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.": "ln_final.",
}  # fmt: skip
_OPEN_CLIP_LAYER = {
    "layer_norm1.": "ln_1.", "layer_norm2.": "ln_2.", "self_attn.out_proj.": "attn.out_proj.", "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
}  # fmt: skip


def kind_of(family: Family) -> FileKind:
    """The kind of file that a model is written as.

    1.x and 2.x share one diffusers layout. The text encoder's activation tells them apart: programs that read the files run
    CLIP's with ``quick_gelu`` and OpenCLIP's with ``gelu``. Raises InputError for a family that has no such layout here.
    """
    kinds = [kind for kind in WHOLE_KINDS if kind.layout is family.layout]
    if not kinds:
        raise InputError(
            "--format", f"there is no one-file layout of {family.layout.title} to write", expected="--format diffusers",
        )  # fmt: skip
    open_clip = family.text_encoders["text_encoder"].config.hidden_act != "quick_gelu"
    return next((kind for kind in kinds if kind.prefixes["text_encoder"].endswith(OPEN_CLIP_PREFIX) == open_clip), kinds[0])


def original_tensors(family: Family) -> dict[str, torch.Tensor]:
    """A model's tensors under the names of the original layout, with the marks by which other programs recognise v-prediction.

    Raises InputError if a tensor has no place in the layout, because the network is another variant.
    """
    kind = kind_of(family)
    parts = {name: part.state_dict() for name, part in family.parts.items()}
    tensors = rename(parts, {name: part.config for name, part in family.parts.items()}, kind)
    if family.objective.prediction_type == "v_prediction":
        tensors[V_PREDICTION_MARK] = torch.zeros(0)
        if family.scheduler_config.get("rescale_betas_zero_snr"):
            tensors[ZERO_SNR_MARK] = torch.zeros(0)
    return tensors


def write_original(family: Family, file: Path, dtype: torch.dtype | None = None) -> Path:
    """Write a model as one safetensors file, cast to ``dtype`` if given; return ``file``."""
    tensors = original_tensors(family)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(file, {name: value.to(dtype) if dtype and value.is_floating_point() else value for name, value in tensors.items()})
    return file


def rename(parts: Mapping[str, Tensors], configs: Mapping[str, Any], kind: FileKind) -> dict[str, torch.Tensor]:
    """Give the tensors of a diffusers folder's networks their original names; raises InputError if one has no place in the layout."""
    renamed: dict[str, torch.Tensor] = {}
    for part, prefix in kind.prefixes.items():
        tensors = parts[part]
        if part == "unet":
            found = {_unet_name(name, configs[part]): value for name, value in tensors.items()}
        elif part == "vae":
            found = _vae(tensors, configs[part])
        elif prefix.endswith(OPEN_CLIP_PREFIX):
            found = _open_clip({name.removeprefix("text_model."): value for name, value in tensors.items()})
        else:
            found = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in tensors.items()}
        renamed |= {f"{prefix}{name}": value for name, value in found.items()}
    return renamed


def _begin(name: str, names: Mapping[str, str]) -> str:
    """The name with its beginning replaced according to ``names``."""
    for old, new in names.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise InputError(name, "does not fit a one-file checkpoint", expected="a network as in Stable Diffusion 1.x, 2.x or XL")


def _unet_name(name: str, config: Any) -> str:
    each = config["layers_per_block"] + 1
    place, _, rest = name.partition(".")
    if place == "mid_block":
        kind, number, inner = rest.split(".", 2)
        return f"middle_block.1.{inner}" if kind == "attentions" else f"middle_block.{2 * int(number)}.{_begin(inner, _RESNET)}"
    if place not in ("down_blocks", "up_blocks"):
        return _begin(name, _UNET_ENDS)
    block, kind, number, inner = rest.split(".", 3)
    down, index = place == "down_blocks", int(block) * each + int(number)
    # A down block has one layer fewer than an up block, and its downsampling is numbered as if it were one.
    blocks = f"input_blocks.{index + 1}" if down else f"output_blocks.{index}"
    if kind == "resnets":
        return f"{blocks}.0.{_begin(inner, _RESNET)}"
    if kind == "attentions":
        return f"{blocks}.1.{inner}"
    if down:
        return f"input_blocks.{(int(block) + 1) * each}.0.{_begin(inner, {'conv.': 'op.'})}"
    attends = config["up_block_types"][int(block)].startswith("CrossAttn")
    return f"output_blocks.{(int(block) + 1) * each - 1}.{2 if attends else 1}.{_begin(inner, {'conv.': 'conv.'})}"


def _vae(tensors: Tensors, config: Any) -> dict[str, torch.Tensor]:
    levels = len(config["block_out_channels"])
    renamed = {_vae_name(name, levels): value for name, value in tensors.items()}
    # Attention in the original is made of 1 × 1 convolutions.
    return {name: value[:, :, None, None] if ".attn_1." in name and value.ndim == 2 else value for name, value in renamed.items()}


def _vae_name(name: str, levels: int) -> str:
    half, _, rest = name.partition(".")
    place = rest.partition(".")[0]
    if place == "mid_block":
        _, kind, number, inner = rest.split(".", 3)
        if kind == "attentions":
            return f"{half}.mid.attn_1.{_begin(inner, _VAE_ATTENTION)}"
        return f"{half}.mid.block_{int(number) + 1}.{_begin(inner, _VAE_RESNET)}"
    if place not in ("down_blocks", "up_blocks"):
        return _begin(name, _VAE_ENDS)
    _, block, kind, number, inner = rest.split(".", 4)
    # The original numbers the decoder's levels from the highest resolution down.
    level = f"{half}.down.{block}" if place == "down_blocks" else f"{half}.up.{levels - 1 - int(block)}"
    if kind == "resnets":
        return f"{level}.block.{number}.{_begin(inner, _VAE_RESNET)}"
    return f"{level}.{'downsample' if place == 'down_blocks' else 'upsample'}.{inner}"


def _open_clip(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Rename tensors to OpenCLIP's layout: one matrix for query, key and value, and a transposed text projection."""
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif not name.startswith("encoder.layers."):
            found[_begin(name, _OPEN_CLIP_ENDS)] = value
        else:
            number, inner = name.removeprefix("encoder.layers.").split(".", 1)
            layer = f"transformer.resblocks.{number}"
            if inner.startswith("self_attn.q_proj."):
                three = [tensors[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"]
                found[f"{layer}.attn.in_proj_{inner.rpartition('.')[2]}"] = torch.cat(three)
            elif not inner.startswith(("self_attn.k_proj.", "self_attn.v_proj.")):
                found[f"{layer}.{_begin(inner, _OPEN_CLIP_LAYER)}"] = value
    return found
