"""Files that other programs load: embeddings for AUTOMATIC1111 and ComfyUI, adapters for diffusers and in kohya's format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from components.core.paths import atomic_file
from components.diffusion.models.layouts import Layout
from components.diffusion.training.checkpoints import save_tensors
from components.diffusion.training.low_rank import peft_options
from components.diffusion.training.recipe import Recipe

LORA_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "kohya.safetensors"
_KOHYA = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight", "lora_magnitude_vector.weight": "dora_scale"}
PORTABLE_KINDS = ("lora", "lokr", "loha")
"""Kinds of adapters that other programs read. Not OFT: elsewhere its files hold rotations of a layer's output, ours rotate its input."""
_ADAPTER = re.compile(r"\.(?=(?:lora|lokr|hada|pissa)_)")
"""The dot that separates a layer's name from its adapter's."""
_OUTER = re.compile(r"\.(?:lora_B\.weight|lokr_w1|lokr_w1_a|hada_w1_a)$")
"""The one factor of an update that its scale is multiplied into."""

Tensors = Mapping[str, torch.Tensor]


def write_formats(folder: Path, tensors: Tensors, recipe: Recipe, layout: Layout) -> list[str]:
    """Write every such file that suits a recipe, and return their names, sorted.

    ``tensors`` are named as in :class:`components.diffusion.training.trainables.Trainables`, ``layout`` is that of the base's family.
    """
    files = {}
    for token in recipe.new_tokens:
        files[f"{file_stem(token)}.safetensors"] = embedding(token, tensors, layout)
    kind, unet = recipe.lora.kind, layout.denoiser == "unet"
    adapters = {name: value for name, value in tensors.items() if _ADAPTER.search(name)} if kind in PORTABLE_KINDS else {}
    if recipe.strength != 1.0 and recipe.lora.dora:
        # Besides the direction, DoRA has the lengths of the base's own rows, which no factor scales.
        adapters = {}
    if adapters:
        recipe, adapters = without_origin(recipe, adapters)
        adapters = {name: value * recipe.strength if _OUTER.search(name) else value for name, value in adapters.items()}
        # kohya's names are those of a UNet.
        if unet:
            files[KOHYA_FILE] = kohya_lora(adapters, recipe, two_encoders="text_encoder_2" in layout.parts)
        else:
            # ComfyUI reads these files too, but only sees a scale that is in the tensors.
            recipe, adapters = scaled(recipe, adapters)
    lora = bool(adapters) and (kind != "loha" or not unet)
    if lora:
        _write_lora(folder, adapters, recipe, layout.pipeline)
    for name, group in files.items():
        save_tensors(folder / name, group)
    return sorted([*files, *([LORA_FILE] if lora else [])])


def file_stem(token: str) -> str:
    """The name by which AUTOMATIC1111 and ComfyUI know an embedding: the token without its brackets."""
    return re.sub(r"[^\w.-]+", "_", token.strip("<>"))


def embedding(token: str, tensors: Tensors, layout: Layout) -> dict[str, torch.Tensor]:
    """A token's rows, each (k, D): ``emb_params`` where the base has one text encoder, else ``clip_l``, ``clip_g`` and ``t5xxl``."""
    found = {name.partition(".")[0]: value for name, value in tensors.items() if name.endswith(f".tokens.{token}")}
    if len(found) == 1:
        return {"emb_params": next(iter(found.values()))}
    clips = [part for part in found if layout.parts[part][1].startswith("CLIP")]
    return {("clip_l", "clip_g")[clips.index(part)] if part in clips else "t5xxl": value for part, value in found.items()}


def without_origin(recipe: Recipe, adapters: Tensors) -> tuple[Recipe, dict[str, torch.Tensor]]:
    """Adapters for the unchanged base; those that started as a part of it (PiSSA) get twice the rank: B·A − B₀·A₀ is [B, −B₀]·[A, A₀]."""
    if recipe.lora.init != "pissa":
        return recipe, dict(adapters)
    joined = {}
    for name, value in adapters.items():
        layer, _, kind = name.partition(".lora_")
        if kind:
            signed, along = (adapters[f"{layer}.pissa_A"], 0) if kind == "A.weight" else (-adapters[f"{layer}.pissa_B"], 1)
            joined[name] = torch.cat([value.detach().cpu(), signed.cpu()], dim=along)
    changes = {"init": "gaussian", "rank": 2 * recipe.rank, "alpha": 2 * recipe.alpha}
    return replace(recipe, lora=recipe.lora.model_copy(update=changes)), joined


def scaled(recipe: Recipe, adapters: Tensors) -> tuple[Recipe, dict[str, torch.Tensor]]:
    """Multiply the scale alpha / rank into the adapters' tensors, so that it becomes 1."""
    scale = recipe.alpha / recipe.rank
    held = {name: value * scale if scale != 1 and _OUTER.search(name) else value for name, value in adapters.items()}
    return replace(recipe, lora=recipe.lora.model_copy(update={"alpha": None})), held


def kohya_lora(adapters: Tensors, recipe: Recipe, *, two_encoders: bool) -> dict[str, torch.Tensor]:
    """Adapters under kohya's names: ``lora_unet_…``, ``lora_te_…`` (``lora_te1_…``, ``lora_te2_…``), each with its alpha.

    LoKr's and LoHa's tensors have LyCORIS's names, as in peft. Programs disagree on when LoKr's alpha applies, so the scale of both is
    in the tensors and alpha is the rank. diffusers' ``convert_state_dict_to_kohya`` is not used: it writes the rank for every alpha,
    does not rename DoRA's magnitudes, and calls the one text encoder of Stable Diffusion 1.x ``te1``.
    """
    if recipe.lora.kind != "lora":
        recipe, adapters = scaled(recipe, adapters)
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if two_encoders else "lora_te", "text_encoder_2": "lora_te2"}
    renamed: dict[str, torch.Tensor] = {}
    for name, value in adapters.items():
        part, _, rest = name.partition(".")
        layer, kind = rest[: _place(rest) - 1], rest[_place(rest) :]
        if part != "unet" and not layer.startswith("text_model."):
            # Public files date from when CLIP's layers were one level deeper.
            layer = f"text_model.{layer}"
        key = f"{prefixes[part]}_{layer.replace('.', '_')}"
        renamed[f"{key}.{_KOHYA.get(kind, kind)}"] = value.reshape(-1, 1) if "magnitude" in kind else value
        renamed[f"{key}.alpha"] = torch.tensor(float(recipe.alpha))
    return renamed


def _place(name: str) -> int:
    """Index at which an adapter's own name begins, after its layer's."""
    found = _ADAPTER.search(name)
    assert found is not None
    return found.start() + 1


def _write_lora(folder: Path, adapters: Tensors, recipe: Recipe, pipeline: str) -> None:
    """Write a LoRA as diffusers itself does, so that ``load_lora_weights`` accepts the folder."""
    import diffusers

    layers: dict[str, dict[str, Any]] = {}
    for name, value in adapters.items():
        part, _, rest = name.partition(".")
        layers.setdefault(part, {})[rest] = value.detach().contiguous()
    lora = recipe.lora
    options: dict[str, Any] = {}
    for part, group in layers.items():
        options[f"{part}_lora_layers"] = group
        targets = list((lora.text_encoder_targets if part.startswith("text_encoder") else lora.targets) or ())
        if lora.blocks and not part.startswith("text_encoder"):
            targets = sorted({name[: _place(name) - 1] for name in group})
        options[f"{part}_lora_adapter_metadata"] = {**peft_options(recipe), "target_modules": targets}
    getattr(diffusers, pipeline).save_lora_weights(folder, **options, weight_name=LORA_FILE, safe_serialization=True)
    sort_metadata(folder / LORA_FILE)


def sort_metadata(path: Path) -> None:
    """Give a safetensors file's metadata a fixed order: safetensors' own varies by process, so the files of equal models would differ.

    A safetensors file begins with the length of its JSON header (8 bytes, little-endian); only the header is touched.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    # Offsets count from the header's end; padding it with blanks to its old length keeps them valid.
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    with atomic_file(path) as temporary:
        temporary.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
