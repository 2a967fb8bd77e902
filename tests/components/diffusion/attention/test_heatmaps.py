from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from components.core.config import SamplingSection
from components.core.content import digest_folder
from components.core.errors import InputError
from components.core.paths import read_json
from components.diffusion.attention.heatmaps import LISTING, explain, overlay, scaled, write_nothing
from components.diffusion.models.bundle import Bundle
from components.diffusion.sampling.jobs import PromptRequest

REQUESTS = [PromptRequest(f"p{index}", "people", text, f"a photo of sks style, {text}") for index, text in enumerate(["a man", "a dog"])]
SETTINGS = SamplingSection(steps=3, guidance=4.0, batch_size=2, repeats=1)


@pytest.fixture(scope="module")
def explained(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    asked = [(REQUESTS[1], ["sks", "a dog"]), (REQUESTS[0], ["sks", "style", "man"])]
    return explain(bundle, asked, SETTINGS, 5, tmp_path_factory.mktemp("heat") / "out")


def test_the_listing_tells_what_is_what(explained: Path) -> None:
    listing = read_json(explained / LISTING)
    assert [row["prompt_id"] for row in listing["pictures"]] == ["p1", "p0"]
    assert (listing["scheduler"], listing["steps"], listing["guidance"], listing["seed"]) == ("dpm++", 3, 4.0, 5)
    second, first = listing["pictures"]
    assert first["full_prompt"] == "a photo of sks style, a man" and first["file_name"] == "images/p0-r0.png"
    assert [(word["word"], word["positions"]) for word in second["words"]] == [("sks", [4]), ("a dog", [7, 8])]
    assert second["words"][1]["file_name"] == "heat/p1-r0-02-a-dog.png"
    values = load_file(explained / "maps.safetensors")
    assert sorted(values) == ["p0/man", "p0/sks", "p0/style", "p1/a dog", "p1/sks"]
    for word in first["words"]:
        numbers = values[f"p0/{word['word']}"]
        assert numbers.shape == (16, 16) and 0 < word["lowest"] <= word["share"] <= word["highest"] < 1
        assert word["share"] == pytest.approx(float(numbers.mean()), abs=1e-6)
        with Image.open(explained / word["file_name"]) as shown:
            assert (shown.mode, shown.size) == ("RGB", (256, 256))


def test_same_inputs_give_the_same_bytes_and_replace_what_was_there(bundle: Bundle, tmp_path: Path) -> None:
    first = explain(bundle, [(REQUESTS[0], ["sks"])], SETTINGS, 5, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old.png").write_text("old")
    second = explain(bundle, [(REQUESTS[0], ["sks"])], SETTINGS, 5, tmp_path / "b")
    assert digest_folder(first) == digest_folder(second)
    assert read_json(first / LISTING)["model"] == bundle.digest


def test_a_failure_leaves_nothing_behind(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'boat'"):
        explain(bundle, [(REQUESTS[0], ["sks", "boat"])], SETTINGS, 5, tmp_path / "out")
    monkeypatch.setattr("components.diffusion.attention.heatmaps.overlay", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explain(bundle, [(REQUESTS[0], ["sks"])], SETTINGS, 5, tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []
    assert read_json(write_nothing(tmp_path / "none") / LISTING)["pictures"] == []


def brightness(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L")).astype(float)


def test_an_overlay_glows_where_the_word_matters() -> None:
    values = np.full((8, 8), 0.01, np.float32)
    values[:, 4:] = 0.05
    shown = overlay(Image.new("RGB", (64, 48), (128, 128, 128)), values)
    assert shown.size == (256, 192)
    light = brightness(shown)
    assert light[:, 224:].min() > light[:, :32].max() + 50
    # Gray stays gray where it is cold: no colour of its own hides the picture there.
    cold = np.asarray(shown)[:, :32].astype(int)
    assert np.ptp(cold, axis=-1).max() <= 12


def test_what_is_even_looks_even_and_large_pictures_keep_their_size() -> None:
    grid = 0.03 * (1 + 0.02 * np.indices((8, 8)).sum(0) / 14).astype(np.float32)
    assert np.ptp(scaled(grid)) < 0.05
    assert np.ptp(brightness(overlay(Image.new("RGB", (300, 300), (90, 90, 90)), grid))) < 12
    assert overlay(Image.new("RGB", (300, 300)), grid).size == (300, 300)
    steep = scaled(np.array([[0.01, 0.01], [0.01, 0.09]], np.float32))
    assert steep.min() == 0.0 and steep.max() == 1.0
    assert scaled(np.zeros((2, 2), np.float32)).max() == 0.0
