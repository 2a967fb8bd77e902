from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from components.core.errors import InputError
from components.evaluation.extractors.factory import check_extractor, make_extractor
from tests.components.evaluation.extractors.conftest import csd_weights, images

Weights = dict[str, torch.Tensor]


def _save(weights: Weights, file: Path) -> Path:
    from safetensors.torch import save_file

    save_file(weights, file)
    return file


def _by_hand(weights: Weights, pixels: torch.Tensor, head: str, layers: int = 2) -> torch.Tensor:
    """The image encoder of OpenAI's CLIP, written out, and a head on its class token."""
    of = {name.removeprefix("backbone."): value for name, value in weights.items()}
    width = len(of["class_embedding"])

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (width,), of[f"{name}.weight"], of[f"{name}.bias"])

    patches = functional.conv2d(pixels, of["conv1.weight"], stride=of["conv1.weight"].shape[-1]).flatten(2).transpose(1, 2)
    x = torch.cat([of["class_embedding"].expand(len(pixels), 1, -1), patches], 1) + of["positional_embedding"]
    x = norm(x, "ln_pre")
    for layer in range(layers):
        name = f"transformer.resblocks.{layer}"
        attention = torch.nn.MultiheadAttention(width, width // 64, batch_first=True)
        attention.load_state_dict({key.removeprefix(f"{name}.attn."): of[key] for key in of if key.startswith(f"{name}.attn.")})
        y = norm(x, f"{name}.ln_1")
        x = x + attention(y, y, y)[0]
        y = functional.linear(norm(x, f"{name}.ln_2"), of[f"{name}.mlp.c_fc.weight"], of[f"{name}.mlp.c_fc.bias"])
        x = x + functional.linear(y * torch.sigmoid(1.702 * y), of[f"{name}.mlp.c_proj.weight"], of[f"{name}.mlp.c_proj.bias"])
    return functional.normalize(norm(x[:, 0], "ln_post") @ weights[f"last_layer_{head}"])


@pytest.mark.parametrize(("name", "head"), [("csd", "style"), ("csd-content", "content")])
def test_it_is_openais_encoder_and_the_head(name: str, head: str, tmp_path: Path) -> None:
    weights = csd_weights(width=128)
    state = torch.get_rng_state()
    extractor = make_extractor(f"{name}:{_save(weights, tmp_path / 'weights.safetensors')}", "x", device="cpu", batch_size=2)
    assert torch.equal(torch.get_rng_state(), state)
    pictures = images(3, ((32, 32),))
    mean, spread = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    pixels = torch.from_numpy(np.stack([(np.asarray(picture) / 255 - mean) / spread for picture in pictures])).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = _by_hand(weights, pixels, head).numpy()
    found = extractor.encode_images(pictures)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert extractor.unit_norm and extractor.name == f"{name}:weights" and "centre crop" in extractor.resize


def test_sizes_ids_and_nothing(tmp_path: Path) -> None:
    file = _save(csd_weights(), tmp_path / "a.safetensors")
    style, content = (make_extractor(f"{name}:{file}", "x", device="cpu") for name in ("csd", "csd-content"))
    assert style.id != content.id and style.id.startswith("csd:") and style.encode_images([]).shape == (0, 12)
    assert style.encode_images([Image.new("RGB", (90, 40))]).shape == (1, 12)
    other = _save(csd_weights(dimension=8), tmp_path / "b.safetensors")
    assert make_extractor(f"csd:{other}", "x", device="cpu").id != style.id


def test_other_files_are_refused(tmp_path: Path) -> None:
    good = csd_weights()
    torch.save(good, tmp_path / "pickled.safetensors")
    _save({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    _save({name: value for name, value in good.items() if name != "last_layer_content"}, tmp_path / "headless.safetensors")
    _save({name: value for name, value in good.items() if "resblocks.1.ln_1" not in name}, tmp_path / "holes.safetensors")
    _save(good | {"backbone.extra": torch.zeros(2)}, tmp_path / "more.safetensors")
    _save(good | {"last_layer_style": torch.zeros(3, 2)}, tmp_path / "head.safetensors")
    for name, message in (
        ("missing", r"no such file.*Run `styleforge convert csd"),
        ("pickled", r"not a safetensors file.*Run `styleforge convert csd"),
        ("other", "weights of another network"),
        ("headless", "weights of another network"),
        ("holes", r"weights of another network \(encoder.layers.1.layer_norm1.bias is missing"),
        ("more", r"weights of another network \(extra is \(2,\)"),
        ("head", "weights of another network"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            make_extractor(f"csd:{tmp_path / name}.safetensors", "scoring.style", device="cpu")
        assert caught.value.where.startswith("scoring.style=csd:") and name in caught.value.where
        # Its header tells as much.
        with pytest.raises(InputError) as early:
            check_extractor(f"csd:{tmp_path / name}.safetensors", "scoring.style")
        assert str(early.value) == str(caught.value)
    check_extractor(f"csd:{_save(good, tmp_path / 'good.safetensors')}", "scoring.style")
    with pytest.raises(InputError, match="no file is named"):
        make_extractor("csd", "x")
