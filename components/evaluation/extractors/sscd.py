"""SSCD, a copy-detection descriptor: Pizzi et al., *A Self-Supervised Descriptor for Image Copy Detection*, CVPR 2022, arXiv 2202.10261."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.core.content import digest_file
from components.core.devices import default_device
from components.evaluation.extractors.base import Features, in_batches, to_unit_norm
from components.evaluation.extractors.weights import another, fill, read_safetensors

NAME = "sscd"
HINT = "get sscd_disc_mixup.torchvision.pt, which github.com/facebookresearch/sscd-copy-detection links to"
_SHORT_SIDE = 288
_MEAN, _SPREAD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
_POWER = 3
_BLOCK = re.compile(r"layer([1-4])\.(\d+)\.(?:(conv|bn)([123])|downsample\.([01]))\.(.+)")
_CLASSY = re.compile(
    r"blocks\.(\d)\.(?:block\d-)?(\d+)\.(?:_module\.)?(?:convolutional_block\.(\d)|downsample\.([01])|bn)\.(.+)"
)  # fmt: skip
"""A block's weights in Classy Vision's names."""


class SscdExtractor:
    """SSCD on a ResNet-50: (N, 512) embeddings of unit norm, whose dot product is high for copies, even cropped, mirrored or recoloured.

    Images are scaled to 288 pixels on the shorter side, as the authors recommend, and not cropped.

    Args:
        file: weights as ``styleforge convert sscd`` writes them, with torchvision's names after ``backbone.``.
        field: the setting that names the extractor, for errors.

    Raises:
        InputError: the file does not exist, is not safetensors, or holds weights of another network.
    """

    unit_norm = True
    resize = f"shortest side to {_SHORT_SIDE} px, PIL bilinear with antialiasing"

    def __init__(self, file: Path, *, field: str = "extractor", device: str | None = None, batch_size: int = 32) -> None:
        import torch

        where = f"{field}={NAME}:{file}"
        trunk, (weight, bias) = build(read_safetensors(file, where, NAME), where)
        self.device = torch.device(device) if device else default_device("cuda")
        self.trunk, self.weight, self.bias = trunk.to(self.device), weight.to(self.device), bias.to(self.device)
        self.batch_size = batch_size
        self.id = f"{NAME}:{digest_file(file)}"
        self.name = f"{NAME}:{file.stem}"

    def encode_images(self, images: Sequence[Image.Image]) -> Features:
        """(N, 512) float32 embeddings of unit norm."""
        import torch

        parts = [np.zeros((0, len(self.bias)), np.float32)]
        for batch in in_batches(_pixels(images), self.batch_size):
            with torch.inference_mode():
                places = self.trunk(torch.from_numpy(batch).to(self.device)).last_hidden_state.flatten(2)
                pooled = places.clamp(min=1e-6).pow(_POWER).mean(-1).pow(1 / _POWER)
                parts.append(torch.nn.functional.linear(pooled, self.weight, self.bias).cpu().numpy())
        return to_unit_norm(np.concatenate(parts))


def _pixels(images: Sequence[Image.Image]) -> Iterator[Features]:
    for image in images:
        size = tuple(int(_SHORT_SIDE * side / min(image.size)) for side in image.size)
        levels = np.asarray(image.convert("RGB").resize((size[0], size[1]), Image.Resampling.BILINEAR), np.float32) / 255
        yield np.ascontiguousarray(((levels - _MEAN) / _SPREAD).transpose(2, 0, 1))


def select(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Published weights under torchvision's names, whichever of the two naming schemes they use."""
    return {_torchvision(name): value for name, value in content.items()}


def build(tensors: Mapping[str, Any], where: str) -> tuple[Any, tuple[Any, Any]]:
    """Build the ResNet without its pooling, and the last layer's weight (512, 2048) and bias, with the sizes of the given tensors.

    Raises:
        InputError: weights of another network.
    """
    from transformers import ResNetConfig, ResNetModel

    backbone = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    depths = [len({name.split(".")[1] for name in backbone if name.startswith(f"layer{stage}.")}) for stage in range(1, 5)]
    needed = ["conv1.weight", "fc.weight", "fc.bias", *(f"layer{stage}.0.conv3.weight" for stage in range(1, 5))]
    if missing := [name for name in needed if name not in backbone]:
        raise another(where, NAME, f"without backbone.{missing[0]}")
    head = backbone.pop("fc.weight"), backbone.pop("fc.bias")
    config = ResNetConfig(
        embedding_size=len(backbone["conv1.weight"]), depths=depths, layer_type="bottleneck",
        hidden_sizes=[len(backbone[f"layer{stage}.0.conv3.weight"]) for stage in range(1, 5)],
    )  # fmt: skip
    return fill(lambda: ResNetModel(config), {_transformers(name): value for name, value in backbone.items()}, where, NAME), head


def _transformers(name: str) -> str:
    """Translate torchvision's name of a weight into transformers' name."""
    kinds = {"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}
    if not (found := _BLOCK.fullmatch(name)):
        return re.sub(r"^(conv|bn)1\.", lambda stem: f"embedder.embedder.{kinds[stem[1]]}.", name)
    stage, block, kind, number, shortcut, rest = found.groups()
    part = f"layer.{int(number) - 1}.{kinds[kind]}" if kind else f"shortcut.{kinds[shortcut]}"
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{part}.{rest}"


def _torchvision(name: str) -> str:
    """Translate Classy Vision's name of a weight into torchvision's name; other names stay as they are."""
    stem, dot, rest = name.partition("backbone.")
    if stem or not dot:
        return re.sub(r"^embeddings\.1\.", "backbone.fc.", name)
    rest = re.sub(r"^initial_block\._module\.0\.", "conv1.", rest)
    rest = re.sub(r"^initial_block\._module\.1\.", "bn1.", rest)
    if found := _CLASSY.fullmatch(rest):
        stage, block, place, shortcut, end = found.groups()
        # A block repeats convolution, normalisation and ReLU three times; its last normalisation is called bn.
        inside = f"{'bn' if int(place) % 3 else 'conv'}{int(place) // 3 + 1}" if place else f"downsample.{shortcut}" if shortcut else "bn3"
        rest = f"layer{int(stage) + 1}.{block}.{inside}.{end}"
    return f"backbone.{rest}"
