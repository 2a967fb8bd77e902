import contextlib
import shutil
import sqlite3
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from components.core.errors import InputError, ServiceUnreachable
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.extractors.inception import InceptionExtractor
from components.evaluation.features import FeatureCache, encode_texts_cached
from tests.components.evaluation.conftest import picture


def test_embeddings_give_unit_norm_embeddings_whatever_the_batch(clip_folder: Path) -> None:
    pictures = [picture(seed, (40, 40, 40), side) for seed, side in enumerate((64, 32, 48, 64, 20))]
    texts = ["a man", "a house with a hat", "a dog", ""]
    one, five = (ClipEncoder(str(clip_folder), device="cpu", batch_size=size) for size in (1, 5))
    for few, many in ((one.encode_images(pictures), five.encode_images(pictures)), (one.encode_texts(texts), five.encode_texts(texts))):
        assert few.dtype == np.float32 and few.shape[1] == one.dimension
        assert np.linalg.norm(few, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.abs(few - many).max() < 1e-5
    assert one.encode_images([]).shape == one.encode_texts([]).shape == (0, one.dimension)
    long = "zebra " * 40
    assert one.too_long(["a man", long]) == [long] and one.encode_texts([long]).shape == (1, one.dimension)
    # As the model gives them when called by hand.
    pixels = torch.from_numpy(np.asarray(pictures[1], np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    model = CLIPModel.from_pretrained(clip_folder)
    with torch.no_grad():
        by_hand = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)[0].numpy()
    assert one.encode_images(pictures[1:2])[0] == pytest.approx(by_hand / np.linalg.norm(by_hand), abs=1e-5)


def test_the_id_follows_the_weights_not_the_path(clip_folder: Path, tmp_path: Path) -> None:
    same = shutil.copytree(clip_folder, tmp_path / "same")
    assert ClipEncoder(str(same), device="cpu").id == ClipEncoder(str(clip_folder), device="cpu").id
    (same / "preprocessor_config.json").write_text(
        (same / "preprocessor_config.json").read_text().replace('"do_center_crop": true', '"do_center_crop": false')
    )
    assert ClipEncoder(str(same), device="cpu").id != ClipEncoder(str(clip_folder), device="cpu").id


def test_what_is_no_clip_or_pickled_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(clip_folder, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    partial = shutil.copytree(clip_folder, tmp_path / "partial")
    tensors = load_file(partial / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("visual_projection")}
    save_file(kept, partial / "model.safetensors", {"format": "pt"})
    for name, message in (
        ("partial", "weights of another network: 1 of its tensors are missing, such as visual_projection.weight"),
        ("pickled", r"scoring\.extractor=.*safetensors"),
        ("", "cannot be loaded as a CLIP"),
        ("none", "no such file or"),
    ):
        with pytest.raises(InputError, match=message):
            ClipEncoder(str(tmp_path / name), device="cpu")


def test_cache_keeps_vectors_by_extractor_all_or_nothing(tmp_path: Path) -> None:
    vectors, cache = {f"k{i}": np.full(4, i, np.float32) for i in range(1200)}, FeatureCache("a", tmp_path)
    cache.put(vectors)
    found = FeatureCache("a", tmp_path).get([*vectors, "missing"])
    assert set(found) == set(vectors) and (found["k7"] == 7).all()
    assert FeatureCache("b", tmp_path).get(["k1"]) == {}
    with pytest.raises((TypeError, ValueError)):
        cache.put({"good": np.ones(2, np.float32), "bad": "not a vector"})  # type: ignore[dict-item]
    assert cache.get(["good", "bad"]) == {}


def test_a_broken_cache_begins_anew(tmp_path: Path) -> None:
    path = FeatureCache("a", tmp_path).path
    path.write_bytes(b"no database at all, " * 100)
    cache = FeatureCache("a", tmp_path)
    cache.put({"k": np.ones(2, np.float32)})
    assert list(cache.get(["k"])) == ["k"] and path.with_suffix(".broken").is_file()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (1,)


def test_a_locked_cache_is_not_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache("a", tmp_path)
    cache.put({"k": np.ones(2, np.float32)})
    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda path, timeout: connect(path, timeout=0.01))
    with contextlib.closing(connect(cache.path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for used in (lambda: FeatureCache("a", tmp_path), lambda: cache.get(["k"])):
            with pytest.raises(ServiceUnreachable, match="locked: another run") as caught:
                used()
            assert caught.value.where == str(cache.path)
    assert list(cache.get(["k"])) == ["k"] and not cache.path.with_suffix(".broken").exists()


def test_texts_are_encoded_once(clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, cache = ClipEncoder(str(clip_folder), device="cpu"), FeatureCache("a", tmp_path)
    first = encode_texts_cached(encoder, ["a man", "a dog", "a man"], cache)
    monkeypatch.setattr(encoder, "encode_texts", lambda texts: np.zeros((len(texts), 4), np.float32) if not texts else pytest.fail("asked"))
    again = encode_texts_cached(encoder, ["a dog"], cache)
    assert set(first) == {"a man", "a dog"} and (again["a dog"] == first["a dog"]).all()


def fake_fidelity(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A stand-in for torch-fidelity's extractor: mean colours, repeated. Returns the shapes that it is called with."""
    shapes: list[tuple[int, ...]] = []

    class Extractor(torch.nn.Module):
        def __init__(self, name: str, features: list[str], feature_extractor_weights_path: str) -> None:
            super().__init__()
            assert name == "inception-v3-compat" and features == ["2048"]
            self.weights = torch.load(feature_extractor_weights_path, weights_only=True)

        def forward(self, pixels: torch.Tensor) -> Any:
            assert pixels.dtype == torch.uint8
            shapes.append(tuple(pixels.shape))
            return (pixels.float().mean(dim=(2, 3)).repeat(1, 683)[:, :2048],)

    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return shapes


def test_inception_takes_pictures_of_any_size_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = fake_fidelity(monkeypatch)
    torch.save({}, tmp_path / "weights.pth")
    extractor = InceptionExtractor(tmp_path / "weights.pth", device="cpu", batch_size=2)
    pictures = [Image.new("RGB", size, (value, 0, 0)) for value, size in enumerate([(8, 8), (8, 8), (8, 8), (6, 4), (8, 8)])]
    features = extractor.encode_images(pictures)
    assert features.shape == (5, 2048) and list(features[:, 0]) == [0, 1, 2, 3, 4]
    assert shapes == [(2, 3, 8, 8), (1, 3, 8, 8), (1, 3, 4, 6), (1, 3, 8, 8)]
    assert extractor.encode_images([]).shape == (0, 2048)


def test_inception_with_wrong_weights_or_without_torch_fidelity_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_fidelity(monkeypatch)
    (tmp_path / "bad.pth").write_text("not weights")
    for name, message in (("none", r"scoring\.inception_weights=.*no such file"), ("bad", "not torch-fidelity's Inception weights")):
        with pytest.raises(InputError, match=message):
            InceptionExtractor(tmp_path / f"{name}.pth")
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(InputError, match="pip install torch-fidelity torchvision"):
        InceptionExtractor(tmp_path / "bad.pth")
