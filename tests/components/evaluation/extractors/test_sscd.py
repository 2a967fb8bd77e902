from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from components.core.errors import InputError
from components.evaluation.extractors.factory import check_extractor, make_extractor
from tests.components.evaluation.extractors.conftest import images, sscd_weights

Weights = dict[str, torch.Tensor]


def _save(weights: Weights, file: Path) -> Path:
    from safetensors.torch import save_file

    save_file(weights, file)
    return file


def _by_hand(weights: Weights, x: torch.Tensor, depths: tuple[int, ...] = (2, 1, 2, 1)) -> torch.Tensor:
    """A ResNet with its strides in the 3 × 3 convolutions, written out; generalised mean; the last layer; unit norm."""
    of = {name.removeprefix("backbone."): value for name, value in weights.items()}

    def step(x: torch.Tensor, convolution: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = of[f"{convolution}.weight"]
        x = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return functional.batch_norm(x, *(of[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    x = functional.max_pool2d(step(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    for stage, depth in enumerate(depths, 1):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = step(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = step(y, f"{name}.conv2", f"{name}.bn2", stride).relu()
            y = step(y, f"{name}.conv3", f"{name}.bn3")
            if f"{name}.downsample.0.weight" in of:
                x = step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (x + y).relu()
    pooled = x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    return functional.normalize(functional.linear(pooled, of["fc.weight"], of["fc.bias"]))


def test_it_is_the_resnet_with_generalised_mean(tmp_path: Path) -> None:
    # Width 8 as the stem's: the first block needs no shortcut of its own, unless it changes the width.
    for number, widths in enumerate(((8, 12, 16, 20), (12, 16, 20, 24))):
        weights = sscd_weights(widths)
        file = _save(weights, tmp_path / f"{number}.safetensors")
        extractor = make_extractor(f"sscd:{file}", "x", device="cpu", batch_size=2)
        pictures = images(3, ((288, 288), (288, 300)))
        levels = [(np.asarray(picture) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] for picture in pictures]
        with torch.no_grad():
            expected = [_by_hand(weights, torch.from_numpy(level).permute(2, 0, 1)[None].float())[0].numpy() for level in levels]
        found = extractor.encode_images(pictures)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert np.abs(found[0] - found[1]).max() > 0.01
    assert extractor.unit_norm and extractor.id.startswith("sscd:") and extractor.encode_images([]).shape == (0, 6)


def test_the_short_side_becomes_288_and_nothing_is_cut(tmp_path: Path) -> None:
    extractor = make_extractor(f"sscd:{_save(sscd_weights(), tmp_path / 'a.safetensors')}", "x", device="cpu")
    wide = Image.new("RGB", (120, 60))
    wide.paste((255, 255, 255), (100, 0, 120, 60))
    plain, edge = extractor.encode_images([Image.new("RGB", (120, 60)), wide])
    assert np.abs(plain - edge).max() > 0.05
    twice, grey = extractor.encode_images([wide.resize((240, 120), Image.Resampling.NEAREST), ImageOps.grayscale(wide)])
    np.testing.assert_allclose(twice, edge, atol=0.02)
    np.testing.assert_array_equal(grey, edge)


def test_other_files_are_refused(tmp_path: Path) -> None:
    good = sscd_weights()
    torch.save(good, tmp_path / "pickled.safetensors")
    _save({name: value for name, value in good.items() if "fc" not in name}, tmp_path / "headless.safetensors")
    _save({name: value for name, value in good.items() if "layer3.1" not in name or "bn" not in name}, tmp_path / "holes.safetensors")
    grouped = good | {"backbone.layer1.0.conv2.weight": torch.zeros(2, 1, 3, 3)}
    _save(grouped, tmp_path / "grouped.safetensors")
    for name, message in (
        ("missing", r"no such file.*Run `styleforge convert sscd"),
        ("pickled", "not a safetensors file"),
        ("headless", "weights of another network"),
        ("holes", "weights of another network"),
        ("grouped", "weights of another network"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            make_extractor(f"sscd:{tmp_path / name}.safetensors", "copies", device="cpu")
        assert caught.value.where.startswith("copies=sscd:")
        with pytest.raises(InputError) as early:
            check_extractor(f"sscd:{tmp_path / name}.safetensors", "copies")
        assert str(early.value) == str(caught.value)
    check_extractor(f"sscd:{_save(good, tmp_path / 'good.safetensors')}", "copies")
