"""CSD, contrastive style descriptors: Somepalli et al., *Measuring Style Similarity in Diffusion Models*, 2024, arXiv 2404.01292."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL.Image import Image

from components.core.content import digest_file
from components.core.devices import default_device
from components.evaluation.extractors.base import Features, in_batches, to_unit_norm
from components.evaluation.extractors.vision import describe_resize
from components.evaluation.extractors.weights import another, fill, read_safetensors

Head = Literal["style", "content"]
NAMES: dict[str, Head] = {"csd": "style", "csd-content": "content"}
HINT = "get pytorch_model.bin of tomg-group-umd/CSD-ViT-L on the Hugging Face Hub"
_HEAD_WIDTH = 64
"""Channels per attention head in all of OpenAI's CLIP models."""
_RENAMED = (
    (r"conv1\.weight", "embeddings.patch_embedding.weight"),
    (r"class_embedding", "embeddings.class_embedding"),
    (r"positional_embedding", "embeddings.position_embedding.weight"),
    (r"ln_pre\.", "pre_layrnorm."),
    (r"ln_post\.", "post_layernorm."),
    (r"transformer\.resblocks\.(\d+)\.attn\.", r"encoder.layers.\1.self_attn."),
    (r"transformer\.resblocks\.(\d+)\.ln_([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"encoder.layers.\1.mlp.fc1."),
    (r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"encoder.layers.\1.mlp.fc2."),
)
"""Weight names of OpenAI's CLIP, under which CSD is published, and transformers' names of the same weights."""


class CsdExtractor:
    """One of CSD's two heads on a CLIP image encoder: embeddings of style, or of content regardless of style, of unit norm.

    Args:
        file: weights as ``styleforge convert csd`` writes them: OpenAI's names after ``backbone.``, ``last_layer_style`` and
            ``last_layer_content``.
        head: which projection to use.
        field: the setting that names the extractor, for errors.

    Raises:
        InputError: the file does not exist, is not safetensors, or holds weights of another network.
    """

    unit_norm = True

    def __init__(
        self, file: Path, head: Head = "style", *, field: str = "extractor", device: str | None = None, batch_size: int = 32
    ) -> None:  # fmt: skip
        import torch
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        name = next(name for name, of in NAMES.items() if of == head)
        where = f"{field}={name}:{file}"
        network, heads = build(read_safetensors(file, where, "csd"), where)
        self.device = torch.device(device) if device else default_device("cuda")
        self.network, self.head = network.to(self.device), heads[head].to(self.device)
        side = network.config.image_size
        self._processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        self.batch_size = batch_size
        self.id = f"{name}:{digest_file(file)}"
        self.name = f"{name}:{file.stem}"
        self.resize = describe_resize(self._processor)

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, d) float32 embeddings of unit norm."""
        import torch

        parts = [np.zeros((0, self.head.shape[1]), np.float32)]
        pixels = (self._processor(images=[image], return_tensors="pt")["pixel_values"][0].numpy() for image in images)
        for batch in in_batches(pixels, self.batch_size):
            with torch.inference_mode():
                pooled = self.network(pixel_values=torch.from_numpy(batch).to(self.device)).pooler_output
                parts.append((pooled @ self.head).cpu().numpy())
        return to_unit_norm(np.concatenate(parts))


def select(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The network's state dict in a training checkpoint, or the content itself if it is a state dict."""
    return content.get("model_state_dict", content)


def build(tensors: Mapping[str, Any], where: str) -> tuple[Any, dict[Head, Any]]:
    """Build the CLIP image encoder, and the (width, d) projections by head, from published weights, whose shapes set the sizes.

    Raises:
        InputError: weights of another network.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    backbone = {name.removeprefix("backbone."): value for name, value in tensors.items() if name.startswith("backbone.")}
    heads: dict[Head, Any] = {head: tensors[f"last_layer_{head}"] for head in NAMES.values() if f"last_layer_{head}" in tensors}
    layers = {int(found[1]) for name in backbone if (found := re.match(r"transformer\.resblocks\.(\d+)\.", name))}
    if not layers or len(heads) < len(NAMES) or not {"conv1.weight", "positional_embedding"} <= backbone.keys():
        raise another(where, "csd", "without backbone.conv1.weight, last_layer_style or last_layer_content")
    (width, _, patch, _), places = backbone["conv1.weight"].shape, len(backbone["positional_embedding"]) - 1
    if width % _HEAD_WIDTH or any(head.ndim != 2 or head.shape[0] != width for head in heads.values()):
        raise another(where, "csd", f"{width} channels, heads {', '.join(str(tuple(head.shape)) for head in heads.values())}")
    config = CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=len(layers), num_attention_heads=width // _HEAD_WIDTH,
        patch_size=patch, image_size=patch * round(places**0.5), hidden_act="quick_gelu",
    )  # fmt: skip
    return fill(lambda: CLIPVisionModel(config), _rename(backbone), where, "csd"), heads


def _rename(backbone: Mapping[str, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in backbone.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(rf"^{pattern}", replacement, name)
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            stem, kind = name.rsplit("in_proj_", 1)
            renamed |= {f"{stem}{part}_proj.{kind}": third for part, third in zip("qkv", value.chunk(3), strict=True)}
        else:
            renamed[name] = value
    return renamed
