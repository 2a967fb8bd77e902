"""Writes a tiny model as one file in the layout of the original checkpoints, tensor by tensor: what real ones look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]
RESNET = {
    "norm1.": "in_layers.0.", "conv1.": "in_layers.2.", "time_emb_proj.": "emb_layers.1.", "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.", "conv_shortcut.": "skip_connection.",
}  # fmt: skip
UNET_ENDS = {
    "time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2.", "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.", "conv_out.": "out.2.", "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
}  # fmt: skip
VAE_MIDDLE = {"resnets.0.": "block_1.", "resnets.1.": "block_2.", "attentions.0.": "attn_1."}
VAE_ATTENTION = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}


def write_original(folder: Path, file: Path, kind: str) -> Path:
    """Write the model in ``folder`` (diffusers layout) as one safetensors file; ``kind`` is ``sd1``, ``sd2`` or ``sdxl``."""
    import torch
    from safetensors.torch import save_file

    tensors = _unet(folder) | _vae(folder)
    text = {name.removeprefix("text_model."): value for name, value in _weights(folder / "text_encoder").items()}
    second = folder / "text_encoder_2"
    if kind == "sd2":
        tensors |= _open_clip(text, "cond_stage_model.model.")
    else:
        prefix = "cond_stage_model.transformer." if kind == "sd1" else "conditioner.embedders.0.transformer."
        tensors |= {f"{prefix}text_model.{name}": value for name, value in text.items()}
    if kind == "sdxl":
        tensors |= _open_clip(_weights(second), "conditioner.embedders.1.model.")
    # Real ones carry the training's leftovers too.
    for name in ("alphas_cumprod", "betas", "model_ema.decay", "model_ema.num_updates", "logit_scale"):
        tensors[name] = torch.ones(2)
    if kind != "sd2":
        tensors[f"{prefix}text_model.embeddings.position_ids"] = torch.arange(32)[None]
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    return file


def _weights(part: Path) -> Tensors:
    from safetensors.torch import load_file

    return {name: value for file in sorted(part.glob("*.safetensors")) for name, value in load_file(file).items()}


def _begin(name: str, names: dict[str, str]) -> str:
    return next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)


def _unet(folder: Path) -> Tensors:
    config = json.loads((folder / "unet" / "config.json").read_text())
    each = config["layers_per_block"] + 1
    attends = [kind.startswith("CrossAttn") for kind in config["up_block_types"]]
    return {f"model.diffusion_model.{_unet_name(name, each, attends)}": value for name, value in _weights(folder / "unet").items()}


def _unet_name(name: str, each: int, attends: list[bool]) -> str:
    place, _, rest = name.partition(".")
    if place == "mid_block":
        kind, number, inner = rest.split(".", 2)
        return f"middle_block.1.{inner}" if kind == "attentions" else f"middle_block.{2 * int(number)}.{_begin(inner, RESNET)}"
    if place not in ("down_blocks", "up_blocks"):
        return _begin(name, UNET_ENDS)
    block, kind, number, inner = rest.split(".", 3)
    down, index = place == "down_blocks", int(block) * each + int(number)
    blocks = f"input_blocks.{index + 1}" if down else f"output_blocks.{index}"
    if kind == "resnets":
        return f"{blocks}.0.{_begin(inner, RESNET)}"
    if kind == "attentions":
        return f"{blocks}.1.{inner}"
    if down:
        return f"input_blocks.{(int(block) + 1) * each}.0.op.{inner.removeprefix('conv.')}"
    return f"output_blocks.{(int(block) + 1) * each - 1}.{2 if attends[int(block)] else 1}.{inner}"


def _vae(folder: Path) -> Tensors:
    count = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
    found: Tensors = {}
    for name, value in _weights(folder / "vae").items():
        new = _vae_name(name, count)
        # Attention in the original is made of 1 × 1 convolutions.
        found[f"first_stage_model.{new}"] = value[:, :, None, None] if "attn_1" in new and value.ndim == 2 else value
    return found


def _vae_name(name: str, count: int) -> str:
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    rest = rest.replace("conv_norm_out.", "norm_out.").replace("conv_shortcut.", "nin_shortcut.")
    if rest.startswith("mid_block."):
        inner = _begin(rest.removeprefix("mid_block."), VAE_MIDDLE)
        if inner.startswith("attn_1."):
            inner = "attn_1." + _begin(inner.removeprefix("attn_1."), VAE_ATTENTION)
        return f"{half}.mid.{inner}"
    if rest.startswith(("down_blocks.", "up_blocks.")):
        blocks, block, kind, number, inner = rest.split(".", 4)
        level = f"{half}.down.{block}" if blocks == "down_blocks" else f"{half}.up.{count - 1 - int(block)}"
        if kind == "resnets":
            return f"{level}.block.{number}.{inner}"
        return f"{level}.{'downsample' if blocks == 'down_blocks' else 'upsample'}.{inner}"
    return f"{half}.{rest}"


def _open_clip(weights: Tensors, prefix: str) -> Tensors:
    """OpenCLIP's names: one matrix for query, key and value, and a projection that is multiplied from the other side."""
    import torch

    weights = {name.removeprefix("text_model."): value for name, value in weights.items()}
    ends = {
        "embeddings.position_embedding.weight": "positional_embedding", "embeddings.token_embedding.weight": "token_embedding.weight",
        "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
    }  # fmt: skip
    layer_names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc"}
    layer_names["mlp.fc2"] = "mlp.c_proj"
    found: Tensors = {}
    for name, value in weights.items():
        if name in ends:
            found[prefix + ends[name]] = value
        elif name == "text_projection.weight":
            found[f"{prefix}text_projection"] = value.T
        elif name.startswith("encoder.layers."):
            number, inner = name.removeprefix("encoder.layers.").split(".", 1)
            layer, (part, kind) = f"{prefix}transformer.resblocks.{number}.", inner.rsplit(".", 1)
            if part in layer_names:
                found[f"{layer}{layer_names[part]}.{kind}"] = value
            elif part == "self_attn.q_proj":
                three = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                found[f"{layer}attn.in_proj_{kind}"] = torch.cat(three)
    return found
