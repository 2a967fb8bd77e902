"""Tiny random networks in the layouts in which real ones are published."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image


def images(count: int, sizes: tuple[tuple[int, int], ...] = ((40, 40),)) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(*reversed(sizes[index % len(sizes)]), 3) for index in range(count)]
    return [Image.fromarray(rng.integers(0, 255, shape, np.uint8)) for shape in shapes]


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Drawn so that what goes in matters for what comes out: matrices by their inputs, scales around 1."""
    generator, drawn = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        inputs = np.prod(shape[1:]) if len(shape) > 1 else 100
        is_scale = len(shape) == 1 and name.endswith((".weight", "running_var"))
        drawn[name] = value * (2 / inputs) ** 0.5 + is_scale
    return drawn


def csd_weights(width: int = 64, layers: int = 2, patch: int = 8, side: int = 32, dimension: int = 12) -> dict[str, torch.Tensor]:
    """A small CSD in OpenAI's names."""
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (width, 3, patch, patch), "class_embedding": (width,), "positional_embedding": ((side // patch) ** 2 + 1, width),
        **{f"ln_{name}.{part}": (width,) for name in ("pre", "post") for part in ("weight", "bias")},
    }  # fmt: skip
    for layer in range(layers):
        block = {
            "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,), "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,), "ln_1.weight": (width,), "ln_1.bias": (width,), "ln_2.weight": (width,), "ln_2.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,), "mlp.c_proj.weight": (width, 4 * width),
            "mlp.c_proj.bias": (width,),
        }  # fmt: skip
        shapes |= {f"transformer.resblocks.{layer}.{name}": shape for name, shape in block.items()}
    heads = {f"last_layer_{head}": (width, dimension) for head in ("style", "content")}
    return random_weights({f"backbone.{name}": shape for name, shape in shapes.items()} | heads)


def sscd_weights(widths: tuple[int, ...] = (8, 12, 16, 20), depths: tuple[int, ...] = (2, 1, 2, 1)) -> dict[str, torch.Tensor]:
    """A small SSCD in torchvision's names."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}

    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (8, 3, 7, 7), **norm("bn1", 8), "fc.weight": (6, widths[-1]), "fc.bias": (6,)}
    before = 8
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
        for block in range(depth):
            stem, inner = f"layer{stage}.{block}", width // 4
            kernels = ((inner, before, 1), (inner, inner, 3), (width, inner, 1))
            for number, (out, into, side) in enumerate(kernels, 1):
                shapes |= {f"{stem}.conv{number}.weight": (out, into, side, side), **norm(f"{stem}.bn{number}", out)}
            if block == 0 and (stage > 1 or width != before):
                shapes |= {f"{stem}.downsample.0.weight": (width, before, 1, 1), **norm(f"{stem}.downsample.1", width)}
            before = width
    weights = random_weights({f"backbone.{name}": shape for name, shape in shapes.items()})
    return weights | {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for name in weights if name.endswith("running_mean")
    }


def save_csd_checkpoint(file: Path, weights: dict[str, torch.Tensor]) -> Path:
    """As its training script saves it: beside the weights an optimizer whose rate is a numpy scalar, and the command's arguments."""
    optimizer = {"state": {}, "param_groups": [{"lr": np.float64(1e-4), "params": [0]}]}
    state = {f"module.{name}": value for name, value in weights.items()}
    torch.save({"model_state_dict": state, "opt_bb": optimizer, "iter": 3, "args": argparse.Namespace(arch="vit_large")}, file)
    return file


@pytest.fixture
def vision_folder(tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny random model of a kind, with its processor."""

    def make(kind: str, name: str | None = None, **settings: Any) -> Path:
        import transformers

        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
        if kind == "ConvNext":
            sizes = {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2}  # type: ignore[dict-item]
        if kind in ("ViT", "ViTMAE", "SiglipVision"):
            sizes["intermediate_size"] = 32
        config = getattr(transformers, f"{kind}Config")(**sizes, **settings)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(transformers, f"{kind}Model")(config)
        folder = tmp_path / (name or kind)
        model.save_pretrained(folder)
        transformers.BitImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ).save_pretrained(folder)
        return folder

    return make
