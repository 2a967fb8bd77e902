import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.errors import InputError
from components.evaluation.extractors.factory import make_extractor
from tests.components.evaluation.extractors.conftest import images


def _pixels(pictures: list[Image.Image]) -> torch.Tensor:
    """What the processor of these tests makes of pictures of 32 pixels."""
    return torch.from_numpy(np.stack([np.asarray(picture, np.float32) for picture in pictures]) / 127.5 - 1).permute(0, 3, 1, 2)


def _model(folder: Path, **options: Any) -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, **options).eval()


@pytest.mark.parametrize("kind", ["Dinov2", "ViT", "SiglipVision", "ConvNext"])
def test_embeddings_are_the_models_own(kind: str, vision_folder: Callable[..., Path]) -> None:
    folder, pictures = vision_folder(kind), images(3, ((32, 32),))
    extractor = make_extractor(str(folder), "scoring.x", device="cpu", batch_size=2)
    with torch.no_grad():
        expected = _model(folder)(pixel_values=_pixels(pictures)).pooler_output.numpy()
    np.testing.assert_allclose(extractor.encode_images(pictures), expected, atol=1e-5)
    assert extractor.encode_images(pictures).dtype == np.float32 and not extractor.unit_norm
    assert extractor.name == kind and "shortest side to 32 px" in extractor.resize and "centre crop" in extractor.resize


def test_pictures_of_any_size_keep_their_order(vision_folder: Callable[..., Path]) -> None:
    extractor = make_extractor(str(vision_folder("Dinov2")), "x", device="cpu", batch_size=2)
    pictures = images(5, ((40, 40), (64, 33), (40, 40)))
    one_by_one = np.concatenate([extractor.encode_images([picture]) for picture in pictures])
    np.testing.assert_allclose(extractor.encode_images(pictures), one_by_one, atol=1e-5)
    assert len(extractor.encode_images([])) == 0


def test_a_pooler_that_the_weights_lack_is_not_drawn_at_random(vision_folder: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder, pictures = vision_folder("ViT"), images(2, ((32, 32),))
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "pooler" not in name}, folder / "model.safetensors", {"format": "pt"})
    with torch.no_grad():
        expected = _model(folder)(pixel_values=_pixels(pictures)).last_hidden_state[:, 0].numpy()
    for _ in range(2):
        np.testing.assert_allclose(make_extractor(str(folder), "x", device="cpu").encode_images(pictures), expected, atol=1e-5)


def test_a_masked_autoencoder_sees_every_patch(vision_folder: Callable[..., Path]) -> None:
    folder, pictures = vision_folder("ViTMAE"), images(2)
    first, second = (make_extractor(str(folder), "x", device="cpu").encode_images(pictures) for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_processor_that_needs_torchvision_is_refused_without_it(vision_folder: Callable[..., Path]) -> None:
    from components.evaluation.extractors.pretrained import Source

    def needs_a_package(source: str, revision: str | None) -> None:
        raise ImportError("DINOv3ViTImageProcessor requires the Torchvision library")

    source = Source.find(str(vision_folder("Dinov2")), None, "x", "an image model", "")
    with pytest.raises(InputError, match=r"not installed \(DINOv3.*Install it"):
        source.load(needs_a_package)


@pytest.mark.parametrize(("kind", "settings"), [("Dinov2", {}), ("Dinov2WithRegisters", {"num_register_tokens": 3}), ("SiglipVision", {})])
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_statistics_are_of_patches_alone(kind: str, settings: dict[str, int], layer: int, vision_folder: Callable[..., Path]) -> None:
    """Class and register tokens stand before the 4 × 4 patches; and fewer layers than the model has give the same."""
    folder, pictures = vision_folder(kind, **settings), images(2, ((32, 32),))
    with torch.no_grad():
        hidden = _model(folder)(pixel_values=_pixels(pictures), output_hidden_states=True).hidden_states[layer][:, -16:]
    moments = make_extractor(f"{folder}:moments-{layer}", "x", device="cpu")
    expected = torch.cat([hidden.mean(1), hidden.std(1)], 1).numpy()
    np.testing.assert_allclose(moments.encode_images(pictures), expected, atol=1e-5)
    gram = make_extractor(f"{folder}:gram-{layer}", "x", device="cpu").encode_images(pictures)
    np.testing.assert_allclose(gram, (hidden.transpose(1, 2) @ hidden / 16).flatten(1).numpy(), atol=1e-5)


def test_statistics_of_a_convolution(vision_folder: Callable[..., Path]) -> None:
    folder, pictures = vision_folder("ConvNext"), images(2, ((32, 32),))
    with torch.no_grad():
        hidden = _model(folder)(pixel_values=_pixels(pictures), output_hidden_states=True).hidden_states[1].flatten(2)
    found = make_extractor(f"{folder}:moments-1", "x", device="cpu").encode_images(pictures)
    np.testing.assert_allclose(found, torch.cat([hidden.mean(-1), hidden.std(-1)], 1).numpy(), atol=1e-5)


def test_hidden_layers_of_a_clip() -> None:
    pictures = images(3)
    plain, first, last = (make_extractor(name, "x", device="cpu") for name in ("pocket", "pocket:moments-1", "pocket:moments-4"))
    assert first.encode_images(pictures).shape == (3, 256) and plain.unit_norm and not first.unit_norm
    assert len({plain.id, first.id, last.id}) == 3 and first.name == "pocket:moments-1"
    assert np.abs(first.encode_images(pictures) - last.encode_images(pictures)).max() > 0.1


def test_a_wide_gram_matrix_keeps_its_products() -> None:
    """Projected to 128 directions, squared distances of Gram matrices stay what they are, but for a few per cent."""
    from components.evaluation.extractors.statistics import gram, narrow

    places = torch.randn(6, 512, 40, generator=torch.Generator().manual_seed(0)) + torch.arange(6)[:, None, None]
    exact, projected = gram(places), gram(narrow(places))
    assert projected.shape == (6, 128**2)
    ratio = torch.cdist(projected, projected)[0, 1:] / torch.cdist(exact, exact)[0, 1:]
    assert ((ratio - 1).abs() < 0.25).all()
    assert torch.equal(gram(narrow(places[:, :100])), gram(places[:, :100]))


def test_a_model_that_shares_a_space_with_text_gives_unit_norm(tmp_path: Path) -> None:
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = SiglipConfig(text_config={**sizes, "vocab_size": 30}, vision_config={**sizes, "image_size": 32, "patch_size": 8})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        SiglipModel(config).save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    extractor = make_extractor(str(tmp_path), "x", device="cpu")
    features = extractor.encode_images(images(3))
    assert extractor.unit_norm and np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5) and features.shape == (3, 16)
    assert make_extractor(f"{tmp_path}:moments-1", "x", device="cpu").encode_images(images(3)).shape == (3, 32)


def test_the_id_follows_files_and_layer(vision_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = vision_folder("Dinov2")
    same = shutil.copytree(folder, tmp_path / "same")
    ids = [make_extractor(f"{path}{end}", "x", device="cpu").id for path in (folder, same) for end in ("", ":moments-1", ":gram-1")]
    assert ids[:3] == ids[3:] and len(set(ids)) == 3
    settings = json.loads((same / "preprocessor_config.json").read_text()) | {"do_center_crop": False}
    (same / "preprocessor_config.json").write_text(json.dumps(settings))
    assert make_extractor(str(same), "x", device="cpu").id != ids[0]


def test_what_cannot_be_used_is_refused(vision_folder: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = vision_folder("Dinov2")
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    partial = shutil.copytree(folder, tmp_path / "partial")
    tensors = load_file(partial / "model.safetensors")
    save_file({name: tensors[name] for name in list(tensors)[::2]}, partial / "model.safetensors", {"format": "pt"})
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.copy(vision_folder("Dinov2", "wide", mlp_ratio=2) / "model.safetensors", other)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    for name, message in (
        ("pickled", "safetensors"),
        ("partial", "weights of another network"),
        ("other", "cannot be loaded as an image model"),
        ("broken", "cannot be loaded as an image model"),
        ("bare", "cannot be loaded as an image model"),
        ("", "cannot be loaded as an image model"),
        ("none", "no such file or folder"),
        ("Dinov2:moments-4", "no such layer; expected a layer from 0 to 3"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            make_extractor(str(tmp_path / name), "scoring.style_extractor", device="cpu")
        assert caught.value.where.startswith("scoring.style_extractor=") and name in caught.value.where


def test_a_hub_that_does_not_answer_is_no_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.core.errors import ServiceUnreachable
    from components.evaluation.extractors.pretrained import Source

    asked = []

    def offline(source: str, revision: str | None) -> None:
        asked.append((source, revision))
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    with pytest.raises(ServiceUnreachable, match="x=facebook/dinov2-small: the hub does not answer"):
        Source.find("facebook/dinov2-small", "abc", "x", "an image model", "").load(offline)
    assert asked == [("facebook/dinov2-small", "abc")]
