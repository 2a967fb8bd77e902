from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.evaluation.extractors.statistics import gram
from components.evaluation.extractors.vision import VisionExtractor
from components.evaluation.gram_transfer import GramSettings, GramTransfer, roughness
from tests.components.evaluation.conftest import picture
from tests.components.evaluation.extractors.conftest import vision_folder as vision_folder


class Places:
    """A network of two layers that can be followed by hand: the channels, and their double."""

    id, device = "places", torch.device("cpu")

    def layers(self, pixels: Any) -> list[Any]:
        return [pixels.flatten(2), 2 * pixels.flatten(2)]


def small(*values: int) -> Image.Image:
    """An image of two pixels across."""
    return Image.fromarray(np.array(values, np.uint8).reshape(1, 2, 3))


def test_the_gram_matrix_by_hand() -> None:
    places = torch.tensor([[[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]]])
    by_hand = [(1 + 4 + 9) / 3, (0 - 2 + 12) / 3, (0 - 2 + 12) / 3, (0 + 1 + 16) / 3]
    torch.testing.assert_close(gram(places), torch.tensor([by_hand]), rtol=0, atol=1e-6)


def test_the_losses_by_hand() -> None:
    """The target is the mean Gram matrix of two images; both layers have the same relative loss, for one is the other's double."""
    style = [small(255, 0, 0, 255, 0, 0), small(0, 255, 0, 0, 0, 0)]
    transfer = GramTransfer(Places(), style, GramSettings(style_weight=3.0))
    target = np.diag([0.5, 0.25, 0.0])  # the mean of diag(1, 0, 0) and diag(0, 1/2, 0)
    image = np.array([[1.0, 0.5], [0.0, 1.0], [0.25, 0.0]])
    content = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    of_style = ((image @ image.T / 2 - target) ** 2).sum() / (target**2).sum()
    of_content = ((image - content) ** 2).sum() / (content**2).sum()
    rows = torch.tensor(np.stack([image, image]), dtype=torch.float32)
    found = transfer.losses([rows, 2 * rows], torch.tensor(np.stack([content, image]), dtype=torch.float32))
    torch.testing.assert_close(found, torch.tensor([3 * of_style + of_content, 3 * of_style], dtype=torch.float32), rtol=0, atol=1e-6)


def test_roughness_by_hand() -> None:
    pixels = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    assert roughness(pixels).tolist() == pytest.approx([(0.5 + 0.5) / 2 + (1.0 + 0.0) / 2], abs=1e-6)


def test_layers_are_the_models_hidden_states(vision_folder: Callable[..., Path]) -> None:
    from transformers import AutoModel

    folder, images = vision_folder("ViT"), [picture(seed, (90, 40, 40), 32) for seed in range(2)]
    extractor = VisionExtractor(str(folder), device="cpu")
    pixels = torch.from_numpy(np.stack([np.asarray(image, np.float32) for image in images])).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(pixel_values=2 * pixels - 1, output_hidden_states=True).hidden_states
        found = extractor.layers(pixels)
    assert len(found) == 3
    for layer, state in zip(found, hidden[1:], strict=True):
        torch.testing.assert_close(layer, state[:, 1:].transpose(1, 2), rtol=0, atol=1e-5)
    # Another size is brought to the model's.
    assert extractor.layers(torch.rand(1, 3, 24, 48))[0].shape == found[0][:1].shape


def test_an_image_gets_nearer_to_the_style_in_any_batch(clip_folder: Path) -> None:
    network = VisionExtractor(str(clip_folder), device="cpu")
    style = [picture(seed, (130, 10, 10), 32) for seed in range(3)]
    images = [picture(seed, (10, 60, 130), 32) for seed in (7, 8, 9)]
    together, alone = (GramTransfer(network, style, GramSettings(steps=8), batch_size=size) for size in (3, 1))
    made = list(together.transfer(images))
    assert all(pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8 for pixels in made)
    for one, other in zip(made, alone.transfer(images), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2

    def loss(pixels: Any) -> Any:
        layers = network.layers(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255)
        return together.losses(layers, layers[0])

    with torch.no_grad():
        assert (loss(made) < loss([np.asarray(image) for image in images])).all()
