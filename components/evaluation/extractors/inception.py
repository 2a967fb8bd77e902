"""torch-fidelity's FID Inception."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image

from components.core.content import digest_file
from components.core.devices import default_device
from components.core.errors import InputError
from components.evaluation.extractors.base import Features


class InceptionExtractor:
    """The 2,048-d pool features of torch-fidelity's FID Inception, from a local ``pt_inception-2015-12-05-6726825d.pth``."""

    dimension = 2048
    unit_norm = False

    def __init__(self, weights: str | Path, device: str | None = None, batch_size: int = 64) -> None:
        import torch

        path = Path(weights).expanduser()
        where = f"scoring.inception_weights={weights}"
        if not path.is_file():
            raise InputError(where, "no such file", expected="torch-fidelity's Inception weights (.pth)", remedy="fix the path or unset it")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise InputError(
                where,
                f"Inception features need torch-fidelity and torchvision, which are not installed ({error})",
                remedy="install them with `pip install torch-fidelity torchvision`, or unset the key to score in the CLIP's features",
            ) from error
        try:
            self._model = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)).eval()
        except Exception as error:  # the loader raises whatever pickle, zip or state-dict reading raises
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(where, f"not torch-fidelity's Inception weights ({reason})", remedy="give the file as published") from error
        self.device = torch.device(device) if device else default_device("cuda")
        self._model.to(self.device)
        self.batch_size = batch_size
        self.id = f"inception:{digest_file(path)}"
        self.name = "inception-v3-compat (torch-fidelity), 2048-d"
        self.resize = "299 × 299 px, bilinear as in TensorFlow 1"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """(N, 2048) float32 features; each picture keeps its own size until the network's resize."""
        import torch

        rows = []
        for _, alike in itertools.groupby(images, key=lambda image: image.size):
            while batch := list(itertools.islice(alike, self.batch_size)):
                pixels = torch.from_numpy(np.stack([np.asarray(image, np.uint8) for image in batch])).permute(0, 3, 1, 2)
                with torch.inference_mode():
                    rows.append(self._model(pixels.contiguous().to(self.device))[0].float().cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.dimension), np.float32)
