"""Previews change no weight, stand beside the base's, and are drawn once more from the exported file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.content import digest_folder
from components.core.errors import ConfigError
from components.core.paths import read_json
from components.diffusion.models.deltas import DELTA_FILE
from tests.components.diffusion.conftest import Folders, configure, cut_power, train
from tests.components.diffusion.training.test_loop import RICH, same

PROMPTS = {"validation_prompts": ["a photo of {token} style, a dog", "a photo of {token} style, a house"]}


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


def test_previews_change_no_weight_and_survive_an_interruption(tiny_base: Path, folders: Folders) -> None:
    plain = train(configure(tiny_base, training={**RICH, **PROMPTS}), folders, "plain")
    config = configure(tiny_base, training={**RICH, **PROMPTS, "preview_every": 3})
    shown = train(config, folders, "shown")
    assert same(plain, shown)
    previews = sorted((shown / "training" / "previews").iterdir())
    assert [file.name for file in previews] == ["step-00000000.png", "step-00000003.png", "step-00000006.png"]
    base, third, sixth = (pixels(file) for file in previews)
    height = base.shape[0]
    # The base's row above, then what was learnt until then.
    assert all(np.array_equal(sheet[:height], base) for sheet in (third, sixth))
    assert not np.array_equal(third[height:], base) and not np.array_equal(third[height:], sixth[height:])
    cut_power(config, folders, "parts", 4)
    parts = train(config, folders, "parts")
    for model in (shown, parts):
        (model / "training" / "timing.json").unlink()
    assert digest_folder(shown) == digest_folder(parts)


def test_a_preview_is_the_picture_of_the_model_that_ends_there(tiny_base: Path, folders: Folders) -> None:
    training = {"steps": 4, **PROMPTS}
    short = train(configure(tiny_base, training=training), folders, "short")
    shown = train(configure(tiny_base, training={**training, "steps": 6, "preview_every": 4}), folders, "shown")
    sheet = pixels(shown / "training" / "previews" / "step-00000004.png")
    drawn = np.hstack([pixels(short / "training" / f"validation_{index:02d}.png") for index in range(2)])
    difference = np.abs(sheet[sheet.shape[0] // 2 :].astype(int) - drawn)
    # Another layout of the weights in memory rounds otherwise.
    assert difference.max() <= 2


@pytest.mark.parametrize(
    ("method", "kind"),
    [("lora", "pytorch_lora_weights.safetensors"), ("single-styleforge", "one-file checkpoint"), ("textual-inversion", None)],
)
def test_the_exported_file_draws_what_the_model_draws(tiny_base: Path, folders: Folders, method: str, kind: str | None) -> None:
    model = train(configure(tiny_base, method={"name": method}, training={"steps": 2, "learning_rate": 0.05, **PROMPTS}), folders)
    file = model / "training" / "exported.json"
    # Learnt tokens alone make no checkpoint.
    assert file.is_file() is (kind is not None)
    if kind:
        found = read_json(file)
        assert found["file"] == kind and found["pictures"][0]["prompt"] == "a photo of sks style, a dog"
        assert all(row["largest"] <= 2 and (model / "training" / row["exported"]).is_file() for row in found["pictures"])
        assert method != "lora" or (model / DELTA_FILE).is_file()


def test_previews_of_nothing_are_refused(tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.preview_every: there is nothing to preview"):
        configure(tiny_base, training={"preview_every": 2})


def test_branches_of_the_bases_weights_are_the_bases_while_it_trains(tiny_base: Path, folders: Folders) -> None:
    of_base = {"branches": {"b": {"prompt": "{full_prompt}", "weights": "base"}}}
    # All the way to the base's prediction: whatever was learned, the picture is the base's.
    formula = {**of_base, "terms": [{"scale": 1, "away_from": "prompt", "toward": "b"}]}
    training = {"steps": 2, "learning_rate": 0.05, "preview_every": 1, **PROMPTS}
    model = train(configure(tiny_base, training=training, sampling={"guidance_formula": formula}), folders)
    base, *learned = (pixels(file) for file in sorted((model / "training" / "previews").iterdir()))
    assert len(learned) == 2 and all(np.array_equal(sheet[base.shape[0] :], base) for sheet in learned)
    for prefix in ("validation", "exported"):
        drawn = np.hstack([pixels(model / "training" / f"{prefix}_{index:02d}.png") for index in range(2)])
        assert np.abs(drawn.astype(int) - base).max() <= 2
    assert read_json(model / "styleforge.json")["sampling"]["guidance_formula"]["terms"][0]["toward"] == "b"
    plain = train(configure(tiny_base, training={"steps": 1}), folders, "plain")
    assert "guidance_formula" not in read_json(plain / "styleforge.json")["sampling"]
