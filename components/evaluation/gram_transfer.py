"""Style transfer by Gram matrices, without a style model: Gatys et al., *Image Style Transfer Using Convolutional Neural Networks*, 2016.

The image itself is optimized, in the features of an image model that is also used for scoring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from components.evaluation.extractors.statistics import gram


class Layers(Protocol):
    """An image model: an ``id`` that changes whenever its features would, the device it is on, and the outputs of its layers."""

    id: str
    device: Any

    def layers(self, pixels: Any) -> list[Any]:
        """(N, C, P) output of each layer at P positions, for (N, 3, H, W) pixels from 0 to 1."""
        ...


@dataclass(frozen=True)
class GramSettings:
    """Steps of Adam, their size in pixel values from 0 to 1, and the weights of style and roughness relative to the content."""

    steps: int = 100
    rate: float = 0.02
    style_weight: float = 1.0
    roughness_weight: float = 1.0


class GramTransfer:
    """Gives images the mean Gram matrices of ``style``, and keeps the middle layer's features near those of the original image.

    Both losses are relative, so that layers and models of any scale weigh the same: |G − S|² / |S|², the mean over layers, and
    |F − C|² / |C|². Every image has its own loss, and Adam treats each pixel separately, so the result does not depend on the batch.
    """

    def __init__(self, network: Layers, style: Sequence[Image], settings: GramSettings, batch_size: int = 8) -> None:
        import torch

        self._network, self._settings, self._batch_size = network, settings, batch_size
        grams: list[list[Any]] = []
        with torch.no_grad():
            for image in style:
                grams.append([gram(places) for places in network.layers(_pixels([image], network.device))])
        self._style = [torch.cat(rows).mean(0, keepdim=True) for rows in zip(*grams, strict=True)]

    def transfer(self, images: Sequence[Image]) -> Iterator[NDArray[np.uint8]]:
        """Yield images of one size in the style, uint8 (H, W, 3) each, in their order."""
        for start in range(0, len(images), self._batch_size):
            pixels = self._optimize(_pixels(images[start : start + self._batch_size], self._network.device))
            yield from (255 * pixels).round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def _optimize(self, pixels: Any) -> Any:
        import torch

        with torch.no_grad():
            content = _middle(self._network.layers(pixels))
        pixels = pixels.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([pixels], lr=self._settings.rate)
        for _ in range(self._settings.steps):
            losses = self.losses(self._network.layers(pixels), content) + self._settings.roughness_weight * roughness(pixels)
            # The sum, so that an image's gradient does not depend on the size of the batch; the network gets no gradient.
            (pixels.grad,) = torch.autograd.grad(losses.sum(), pixels)
            optimizer.step()
            with torch.no_grad():
                pixels.clamp_(0.0, 1.0)
        return pixels.detach()

    def losses(self, layers: Sequence[Any], content: Any) -> Any:
        """(N,) losses of N images from their layers (N, C, P) and ``content``, the middle layer of the original images."""
        style = sum(_relative(gram(places), target) for places, target in zip(layers, self._style, strict=True)) / len(self._style)
        return self._settings.style_weight * style + _relative(_middle(layers), content)


def roughness(pixels: Any) -> Any:
    """(N,) mean differences of neighbours across and down (total variation).

    Without this loss, noise builds up wherever the network does not see it.
    """
    return sum(pixels.diff(dim=dim).abs().flatten(1).mean(1) for dim in (2, 3))


def _relative(values: Any, target: Any) -> Any:
    """(N,) |values − target|² / |target|²."""
    return (values - target).flatten(1).square().sum(1) / target.flatten(1).square().sum(1)


def _middle(layers: Sequence[Any]) -> Any:
    return layers[(len(layers) - 1) // 2]


def _pixels(images: Sequence[Image], device: Any) -> Any:
    import torch

    stacked = np.stack([np.asarray(image.convert("RGB"), np.float32) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).to(device) / 255
