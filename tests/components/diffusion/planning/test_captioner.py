"""The model that writes captions, by its configuration alone, beside the one that is loaded."""

from pathlib import Path

import pytest

from components.captioning.model import VisionLanguageModel
from components.core.config import CaptionsSection
from components.core.errors import InputError
from components.diffusion.planning.captioner import PLACES, caption
from tests.fixtures_captioners import tiny_blip_folder, tiny_llava_folder

BYTES = {"fp32": 4, "bf16": 2}


@pytest.mark.parametrize("precision", BYTES)
@pytest.mark.parametrize("make", [tiny_llava_folder, tiny_blip_folder])
def test_weights_are_those_of_the_model_that_is_loaded(make: object, precision: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")  # type: ignore[operator]
    model = VisionLanguageModel(CaptionsSection(model=str(folder), precision=precision))._model  # type: ignore[arg-type]
    held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    (folder / "model.safetensors").unlink()
    step = caption(folder, precision, 4, 60)
    assert (step.name, step.weights, step.estimated) == ("caption", held, True)


def test_the_estimate_by_hand(tmp_path: Path) -> None:
    folder = tiny_llava_folder(tmp_path / "model")
    # Two layers with keys and values of 16 numbers; 4 · 16 states, and 3 · 32 in the MLP of a layer.
    numbers = 2 * 2 * 16 + 4 * 16 + 3 * 32
    assert caption(folder, "bf16", 3, 10).activations == 3 * (PLACES + 10) * numbers * 2
    assert caption(folder, "fp32", 3, 10).activations == 3 * (PLACES + 10) * numbers * 4


WIDE = '{"model_type": "llava", "text_config": {"model_type": "llama", "hidden_size": "wide"}}'


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "bert"}', '{"model_type": "nobody-knows"}', WIDE])
def test_what_is_no_such_model_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"captions\.model=.*no network can be built from its configuration"):
        caption(tmp_path, "bf16", 1, 1)
