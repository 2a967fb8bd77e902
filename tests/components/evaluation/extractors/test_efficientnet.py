import sys

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError
from components.evaluation.extractors.colours import ColourExtractor
from components.evaluation.extractors.efficientnet import EfficientNetExtractor, encode_together


def _images(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "width"), [("efficientnet-lite0", 1280), ("efficientnet-lite0:moments-2", 48), ("efficientnet-lite0:gram-0", 256)]
)
def test_widths_and_batches(name: str, width: int) -> None:
    images = _images(3)
    features = EfficientNetExtractor(name, device="cpu").encode_images(images)
    assert features.shape == (3, width) and features.dtype == np.float32
    one_by_one = EfficientNetExtractor(name, device="cpu", batch_size=1).encode_images(images)
    np.testing.assert_allclose(features, one_by_one, rtol=1e-3, atol=1e-4)
    assert np.linalg.norm(features[0] - features[1]) > 1e-2


def test_together_and_alone_are_the_same() -> None:
    images = _images(3)
    extractors = [EfficientNetExtractor(name, "cpu", 2) for name in ("efficientnet-lite0:moments-1", "efficientnet-lite0")]
    for extractor, features in zip(extractors, encode_together(extractors, images), strict=True):
        np.testing.assert_allclose(features, extractor.encode_images(images), rtol=1e-5)


def test_the_last_layer_is_the_networks_own() -> None:
    import torch

    extractor = EfficientNetExtractor(device="cpu")
    image = _images(1)[0].resize((224, 224))
    pixels = (torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None] - 127) / 128
    expected = extractor.network.extract_features(pixels).mean((2, 3)).numpy()
    np.testing.assert_allclose(extractor.encode_images([image]), expected, rtol=1e-3, atol=1e-5)


def test_colours() -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    image.paste((0, 255, 255), (0, 0, 4, 1))
    features = ColourExtractor().encode_images([image, Image.new("L", (2, 2), 0)])
    assert features.shape == (2, 64) and features.sum() == 2
    assert features[0, 3 * 16] == 0.75 and features[0, 15] == 0.25 and features[1, 0] == 1


def test_gram_and_moments_agree() -> None:
    """A Gram matrix's diagonal holds second moments: squared mean and variance of each channel."""
    image = _images(1)
    gram = EfficientNetExtractor("efficientnet-lite0:gram-2", device="cpu").encode_images(image)[0].reshape(24, 24)
    mean, deviation = np.split(EfficientNetExtractor("efficientnet-lite0:moments-2", device="cpu").encode_images(image)[0], 2)
    places = 56 * 56
    np.testing.assert_allclose(gram.diagonal(), mean**2 + deviation**2 * (places - 1) / places, rtol=1e-3)
    np.testing.assert_allclose(gram, gram.T)


def test_the_id_holds_layer_and_weights() -> None:
    ids = {EfficientNetExtractor(name, device="cpu").id for name in ("efficientnet-lite0", "efficientnet-lite0:gram-2")}
    assert len(ids) == 2 and all(len(item.rpartition(":")[2]) == 64 for item in ids)


@pytest.mark.parametrize("name", ["efficientnet-lite0:gram-16", "efficientnet-lite0:gram", "efficientnet-lite1"])
def test_no_such_layer(name: str) -> None:
    with pytest.raises(InputError, match="B from 0 to 15"):
        EfficientNetExtractor(name)


def test_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r"styleforge\[art\]"):
        EfficientNetExtractor()
