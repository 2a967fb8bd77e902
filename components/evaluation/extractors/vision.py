"""Any image model of transformers: DINOv2, ViT, ConvNeXt, SigLIP and others, and the hidden layers of a CLIP's image encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from components.core.devices import default_device
from components.core.errors import InputError
from components.evaluation.extractors.base import Features, in_batches, to_unit_norm
from components.evaluation.extractors.pretrained import Source
from components.evaluation.extractors.statistics import Statistic, narrow

_EXPECTED = "a folder or hub id with config.json, model.safetensors and preprocessor_config.json"
_NO_CODE = {"trust_remote_code": False}


class VisionExtractor:
    """Embeddings of an image model, or statistics over the positions of one of its hidden layers.

    An embedding is the model's own: its image features at unit norm if text shares their space (SigLIP), else its unscaled pooled output.
    If the weights have no pooler, that is the class token, or the mean over positions of a feature map. Images go through the model's own
    processor, with Pillow if it supports that (DINOv3 needs torchvision).

    Args:
        model: ``pocket``, a folder or a hub id; safetensors only.
        revision: a hub model's commit.
        statistic: replaces the embedding by a statistic of hidden state L: 0 is the input of the first layer, L the output of the Lth.
            Positions are patches; class and register tokens are left out. A Gram matrix has at most 128 directions, (N, 128²).
        field: the setting that names the model, for errors.

    Raises:
        InputError: there is no such model, it has no image encoder or no such layer, or its weights are pickled or of another network.
        ServiceUnreachable: the model is a hub id and the hub does not answer.
    """

    def __init__(
        self, model: str, revision: str | None = None, statistic: Statistic | None = None, *, field: str = "scoring.extractor",
        device: str | None = None, batch_size: int = 32,
    ) -> None:  # fmt: skip
        import torch
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        source = Source.find(model, revision, field, "an image model", _EXPECTED)
        config = source.load(AutoConfig.from_pretrained, **_NO_CODE)
        if hasattr(config, "mask_ratio"):
            config.mask_ratio = 0.0  # a masked autoencoder would leave out different patches each time
        self._statistic = statistic
        if statistic:
            _shorten(config, statistic, source)
        self._processor = source.load(AutoImageProcessor.from_pretrained, backend="pil", **_NO_CODE)
        # Published weights often lack the pooler; transformers would initialise it at random.
        self._model, missing = source.load_model(AutoModel.from_pretrained, ("pooler.",), config=config, **_NO_CODE)
        if "image" not in self._model.input_modalities:
            raise InputError(source.where, f"a {config.model_type}, which takes no images", expected=source.expected)
        self._has_pooler = not missing
        self.device = torch.device(device) if device else default_device("cuda")
        self._model.to(self.device)
        self.batch_size = batch_size
        self.unit_norm = statistic is None and hasattr(self._model, "get_image_features")
        suffix = f":{statistic}" if statistic else ""
        backend = _backend(self._processor)
        self.id = f"vision:{source.digest(self._model)}{suffix}" + (f":{backend}" if backend != "pil" else "")
        self.name = source.name + suffix
        self.resize = describe_resize(self._processor)

    def encode_images(self, images: Sequence[Image.Image]) -> Features:
        """(N, d) float32 features."""
        import torch

        parts = []
        for batch in in_batches(self._pixels(images), self.batch_size):
            with torch.inference_mode():
                parts.append(self._encode(torch.from_numpy(batch).to(self.device)).float().cpu().numpy())
        rows = np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)
        return to_unit_norm(rows) if self.unit_norm else rows

    def layers(self, pixels: Any) -> list[Any]:
        """(N, C, P) output of each layer at P positions, for (N, 3, H, W) pixels from 0 to 1; gradients flow back to the pixels.

        Pixels are resized to the processor's size for a square image, regardless of aspect ratio, and normalised as the processor does.
        """
        from torch.nn.functional import interpolate

        processor = self._processor
        size: Any = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else processor.size
        sides = (size.get("height") or size["shortest_edge"], size.get("width") or size["shortest_edge"])
        if tuple(pixels.shape[-2:]) != sides:
            pixels = interpolate(pixels, sides, mode="bicubic", antialias=True, align_corners=False)
        mean, std = (pixels.new_tensor(row).view(1, -1, 1, 1) for row in (processor.image_mean, processor.image_std))
        hidden = _image_encoder(self._model)(pixel_values=(pixels - mean) / std, output_hidden_states=True).hidden_states
        return [self._places(state, pixels) for state in hidden[1:]]

    def _pixels(self, images: Sequence[Image.Image]) -> Iterator[Features]:
        for image in images:
            yield np.asarray(self._processor(images=[image.convert("RGB")], return_tensors="pt")["pixel_values"][0], np.float32)

    def _encode(self, pixels: Any) -> Any:
        if self._statistic:
            hidden = _image_encoder(self._model)(pixel_values=pixels, output_hidden_states=True).hidden_states[self._statistic.layer]
            places = self._places(hidden, pixels)
            return self._statistic.of(narrow(places) if self._statistic.kind == "gram" else places)
        if self.unit_norm:
            return self._model.get_image_features(pixel_values=pixels).pooler_output
        output = self._model(pixel_values=pixels)
        if self._has_pooler and (pooled := getattr(output, "pooler_output", None)) is not None:
            return pooled.flatten(1)
        last = output.last_hidden_state
        return last.flatten(2).mean(-1) if last.ndim == 4 else last[:, 0]

    def _places(self, hidden: Any, pixels: Any) -> Any:
        """Reshape a hidden state, (N, C, H, W) or (N, tokens, C) with the patches at the end, to (N, C, P)."""
        if hidden.ndim == 4:
            return hidden.flatten(2)
        size = getattr(_image_encoder(self._model).config, "patch_size", 1)
        height, width = (size, size) if isinstance(size, int) else size
        # A network that merges patches has fewer of them in deeper layers.
        patches = min(pixels.shape[-2] // height * (pixels.shape[-1] // width), hidden.shape[1])
        return hidden[:, -patches:].transpose(1, 2)


def model_type(model: str, revision: str | None, field: str) -> str:
    """transformers' name of a model's type, such as ``clip`` or ``dinov2``. Arguments and errors are those of :class:`VisionExtractor`."""
    from transformers import AutoConfig

    return str(Source.find(model, revision, field, "an image model", _EXPECTED).load(AutoConfig.from_pretrained, **_NO_CODE).model_type)


def check_folder(model: str, revision: str | None, statistic: Statistic | None, field: str) -> None:
    """Refuse a folder that :class:`VisionExtractor` would, from its configuration and the names of its files. Arguments are the same."""
    from transformers import AutoConfig

    source = Source.find(model, revision, field, "an image model", _EXPECTED)
    config = source.load(AutoConfig.from_pretrained, **_NO_CODE)
    source.check_weights()
    if statistic:
        _shorten(config, statistic, source)


def describe_resize(processor: Any) -> str:
    """Describe in words how a transformers processor changes an image's size."""
    size, steps = processor.size or {}, []
    if getattr(processor, "do_resize", True):
        edge = size.get("shortest_edge")
        to = f"shortest side to {edge} px" if edge else f"{size.get('width')} × {size.get('height')} px"
        library = "PIL" if _backend(processor) == "pil" else _backend(processor)
        steps.append(f"{to}, {library} {Image.Resampling(int(processor.resample)).name.lower()} with antialiasing")
    if getattr(processor, "do_center_crop", False):
        steps.append("centre crop")
    return ", ".join(steps) or "none"


def _backend(processor: Any) -> str:
    return str(getattr(processor, "backend", "pil"))


def _image_encoder(model: Any) -> Any:
    return getattr(model, "vision_model", model)


def _shorten(config: Any, statistic: Statistic, source: Source) -> None:
    """Leave out the layers that the statistic does not need, which saves their time and memory."""
    vision = getattr(config, "vision_config", config)
    stages = getattr(vision, "depths", None)
    layers = len(stages) if stages else int(getattr(vision, "num_hidden_layers", 0))
    if statistic.layer > layers:
        raise InputError(f"{source.where}:{statistic}", "no such layer", expected=f"a layer from 0 to {layers}")
    if not stages:
        # One more, since some networks end with a normalisation that is part of their last hidden state.
        vision.num_hidden_layers = min(statistic.layer + 1, layers)
