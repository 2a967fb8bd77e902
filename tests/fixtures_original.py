"""Writes a tiny model as one file in the layout of the original checkpoints, with what real ones hold besides."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, FunctionType
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


# From diffusers' names to the original ones; what comes to one name is joined as in FUSED. The first row that matches a name holds.
_SD3 = (
    (r"pos_embed\.pos_embed", "pos_embed"), (r"pos_embed\.proj", "x_embedder.proj"),
    (r"time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
    (r"time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
    (r"time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"), (r"time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
    (r"transformer_blocks\.(\d+)\.(attn2?)\.to_[qkv]\.", r"joint_blocks.\1.x_block.\2.qkv."),
    (r"transformer_blocks\.(\d+)\.attn\.add_[qkv]_proj", r"joint_blocks.\1.context_block.attn.qkv"),
    (r"transformer_blocks\.(\d+)\.(attn2?)\.norm_([qk])\.", r"joint_blocks.\1.x_block.\2.ln_\3."),
    (r"transformer_blocks\.(\d+)\.attn\.norm_added_([qk])\.", r"joint_blocks.\1.context_block.attn.ln_\2."),
    (r"transformer_blocks\.(\d+)\.(attn2?)\.to_out\.0", r"joint_blocks.\1.x_block.\2.proj"),
    (r"transformer_blocks\.(\d+)\.attn\.to_add_out", r"joint_blocks.\1.context_block.attn.proj"),
    (r"transformer_blocks\.(\d+)\.norm1\.linear", r"joint_blocks.\1.x_block.adaLN_modulation.1"),
    (r"transformer_blocks\.(\d+)\.norm1_context\.linear", r"joint_blocks.\1.context_block.adaLN_modulation.1"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.0\.proj", r"joint_blocks.\1.x_block.mlp.fc1"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.2", r"joint_blocks.\1.x_block.mlp.fc2"),
    (r"transformer_blocks\.(\d+)\.ff_context\.net\.0\.proj", r"joint_blocks.\1.context_block.mlp.fc1"),
    (r"transformer_blocks\.(\d+)\.ff_context\.net\.2", r"joint_blocks.\1.context_block.mlp.fc2"),
    ("proj_out", "final_layer.linear"), (r"norm_out\.linear", "final_layer.adaLN_modulation.1"),
)  # fmt: skip
_DOUBLE_BLOCKS = (
    (r"^transformer_blocks\.(\d+)\.attn\.to_[qkv]\.", r"double_blocks.\1.img_attn.qkv."),
    (r"^transformer_blocks\.(\d+)\.attn\.add_[qkv]_proj", r"double_blocks.\1.txt_attn.qkv"),
    (r"^transformer_blocks\.(\d+)\.attn\.norm_q\.weight", r"double_blocks.\1.img_attn.norm.query_norm.scale"),
    (r"^transformer_blocks\.(\d+)\.attn\.norm_k\.weight", r"double_blocks.\1.img_attn.norm.key_norm.scale"),
    (r"^transformer_blocks\.(\d+)\.attn\.norm_added_q\.weight", r"double_blocks.\1.txt_attn.norm.query_norm.scale"),
    (r"^transformer_blocks\.(\d+)\.attn\.norm_added_k\.weight", r"double_blocks.\1.txt_attn.norm.key_norm.scale"),
    (r"^transformer_blocks\.(\d+)\.attn\.to_out\.0", r"double_blocks.\1.img_attn.proj"),
    (r"^transformer_blocks\.(\d+)\.attn\.to_add_out", r"double_blocks.\1.txt_attn.proj"),
    (r"^transformer_blocks\.(\d+)\.ff\.(net\.0\.proj|linear_in)", r"double_blocks.\1.img_mlp.0"),
    (r"^transformer_blocks\.(\d+)\.ff\.(net\.2|linear_out)", r"double_blocks.\1.img_mlp.2"),
    (r"^transformer_blocks\.(\d+)\.ff_context\.(net\.0\.proj|linear_in)", r"double_blocks.\1.txt_mlp.0"),
    (r"^transformer_blocks\.(\d+)\.ff_context\.(net\.2|linear_out)", r"double_blocks.\1.txt_mlp.2"),
    (r"^(single_)transformer_(blocks\.\d+)\.attn\.norm_q\.weight", r"\1\2.norm.query_norm.scale"),
    (r"^(single_)transformer_(blocks\.\d+)\.attn\.norm_k\.weight", r"\1\2.norm.key_norm.scale"),
    (r"^x_embedder", "img_in"), (r"^context_embedder", "txt_in"), (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
    (r"^time_(text|guidance)_embed\.timestep_embedder\.linear_1", "time_in.in_layer"),
    (r"^time_(text|guidance)_embed\.timestep_embedder\.linear_2", "time_in.out_layer"),
    (r"^proj_out", "final_layer.linear"),
)  # fmt: skip
_FLUX = (
    *_DOUBLE_BLOCKS,
    (r"^transformer_blocks\.(\d+)\.norm1\.linear", r"double_blocks.\1.img_mod.lin"),
    (r"^transformer_blocks\.(\d+)\.norm1_context\.linear", r"double_blocks.\1.txt_mod.lin"),
    (r"^(single_)transformer_(blocks\.\d+)\.(attn\.to_[qkv]|proj_mlp)\.", r"\1\2.linear1."),
    (r"^(single_)transformer_(blocks\.\d+)\.proj_out", r"\1\2.linear2"),
    (r"^(single_)transformer_(blocks\.\d+)\.norm\.linear", r"\1\2.modulation.lin"),
    (r"^time_text_embed\.text_embedder\.linear_1", "vector_in.in_layer"),
    (r"^time_text_embed\.text_embedder\.linear_2", "vector_in.out_layer"),
    (r"^time_text_embed\.guidance_embedder\.linear_1", "guidance_in.in_layer"),
    (r"^time_text_embed\.guidance_embedder\.linear_2", "guidance_in.out_layer"),
)
_FLUX_2 = (
    *_DOUBLE_BLOCKS,
    (r"^(single_)transformer_(blocks\.\d+)\.attn\.to_qkv_mlp_proj", r"\1\2.linear1"),
    (r"^(single_)transformer_(blocks\.\d+)\.attn\.to_out", r"\1\2.linear2"),
    (r"^((double|single)_stream_modulation\w*)\.linear", r"\1.lin"),
)
_ATTENTION = (
    (r"\.(attention|attn)\.to_[qkv]\.", ".attention.qkv."), (r"\.(attention|attn)\.norm_([qk])\.", r".attention.\2_norm."),
    (r"\.(attention|attn)\.to_out\.0\.", ".attention.out."),
)  # fmt: skip
_Z_IMAGE = (*_ATTENTION, (r"^all_final_layer\.2-1\.", "final_layer."), (r"^all_x_embedder\.2-1\.", "x_embedder."))
_LUMINA_2 = (
    *_ATTENTION,
    (r"^time_caption_embed\.caption_embedder", "cap_embedder"),
    (r"^time_caption_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
    (r"^time_caption_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
    (r"^norm_out\.linear_1", "final_layer.adaLN_modulation.1"), (r"^norm_out\.linear_2", "final_layer.linear"),
    (r"\.norm1\.linear\.", ".adaLN_modulation.1."), (r"^(context_refiner\.\d+)\.norm1\.", r"\1.attention_norm1."),
    (r"\.norm1\.norm\.", ".attention_norm1."), (r"\.norm2\.", ".attention_norm2."), (r"\.linear_([123])\.", r".w\1."),
)  # fmt: skip
_FUSED = "qkvm"
_Names = tuple[tuple[str, str], ...]
FLOWS: dict[str, tuple[_Names, tuple[str, ...]]] = {
    "sd3": (_SD3, ("final_layer.adaLN", "joint_blocks.1.context_block.adaLN")),
    "flux-dev": (_FLUX, ("final_layer.adaLN",)),
    "flux2-klein": (_FLUX_2, ("final_layer.adaLN",)),
    "z-image": (_Z_IMAGE, ()),
    "lumina2": (_LUMINA_2, ()),
}
"""By flow base: the original names of its transformer's tensors, and which of them have shift before scale."""
# Widths that diffusers' conversions of FLUX.1 and Lumina-Image 2.0 have written in, and those of the tiny bases.
WIDTHS = {"FluxTransformer2DModel": {3072: 32}, "Lumina2Transformer2DModel": {2304: 32, 768: 16}}


def original_transformer(tensors: Mapping[str, Any], base: str) -> dict[str, Any]:
    """A transformer's tensors under the names, and in the form, of the original layout."""
    import torch

    rows, swapped = FLOWS[base]
    found: dict[str, dict[int, Any]] = {}
    for name, value in tensors.items():
        renamed = next((each for pattern, new in rows if (each := re.sub(pattern, new, name, count=1)) != name), name)
        joined = re.search(r"(?:to_|add_|proj_)([qkvm])", name) if re.search(r"qkv|linear1", renamed) else None
        found.setdefault(renamed, {})[_FUSED.index(joined[1]) if joined else 0] = value
    original = {name: torch.cat([parts[index] for index in sorted(parts)]) for name, parts in found.items()}
    return {name: torch.cat(value.chunk(2)[::-1]) if name.startswith(swapped) else value for name, value in original.items()}


def write_flow(folder: Path, file: Path, base: str, prefix: str = "", **more: Any) -> Path:
    """Write the transformer of a flow base's folder as one safetensors file in the original layout, and ``more`` tensors beside it.

    Published files of two families hold a norm that is never applied.
    """
    from safetensors.torch import load_file, save_file

    (weights,) = (folder / "transformer").glob("*.safetensors")
    tensors = {f"{prefix}{name}": value for name, value in original_transformer(load_file(weights), base).items()}
    if base in ("z-image", "lumina2"):
        tensors[f"{prefix}norm_final.weight"] = next(iter(tensors.values())).new_ones(32)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in (tensors | more).items()}, file)
    return file


def narrow(convert: Callable[..., Any], widths: Mapping[int, int]) -> Callable[..., Any]:
    """A conversion of diffusers that has other widths written in."""

    def changed(code: CodeType) -> CodeType:
        constants = tuple(changed(each) if isinstance(each, CodeType) else _replaced(each, widths) for each in code.co_consts)
        return code.replace(co_consts=constants)

    return FunctionType(changed(convert.__code__), convert.__globals__)


def _replaced(constant: Any, widths: Mapping[int, int]) -> Any:
    return widths.get(constant, constant) if type(constant) is int else constant


def write_whole(folder: Path, file: Path, base: str) -> Path:
    """The same with VAE and text encoders, as ComfyUI writes them: T5 without its second name for the table of tokens."""
    from dataclasses import replace

    from components.diffusion.export.original import rename
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.models.layouts import FILE_KINDS

    family = load_bundle(folder, device="cpu").family
    kind = next(kind for kind in FILE_KINDS if kind.layout is family.layout)
    vae = replace(kind, prefixes={"vae": kind.prefixes["vae"]})
    tensors = rename({"vae": family.vae.state_dict()}, {"vae": family.vae.config}, vae)
    for name, encoder in family.text_encoders.items():
        prefix = kind.prefixes[name]
        inner = "text_model." if type(encoder).__name__ == "CLIPTextModel" else ""
        values = {each: value for each, value in encoder.state_dict().items() if each != "encoder.embed_tokens.weight"}
        tensors |= {f"{prefix}{inner}{each.removeprefix(inner)}": value.clone() for each, value in values.items()}
        tensors[f"{prefix.removesuffix('transformer.')}logit_scale"] = family.vae.encoder.conv_in.bias.new_ones(1)
    return write_flow(folder, file, base, kind.prefixes["transformer"], **tensors)
