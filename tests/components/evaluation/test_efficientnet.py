from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError
from components.evaluation.efficientnet import EfficientNetExtractor


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
