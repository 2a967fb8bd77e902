"""The real path on tiny models: what AutoProcessor and AutoModelForImageTextToText load from a folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from components.captioning.model import REQUEST, VisionLanguageModel
from components.captioning.sources import captioner_id, check_captioner
from components.core.config import CaptionsSection
from components.core.errors import InputError
from components.core.paths import embedded_weights
from tests.components.styledata.helpers import picture

PICTURES = [picture(seed, 40 + 8 * seed, 64) for seed in range(3)]


def settings(model: object, **values: object) -> CaptionsSection:
    return CaptionsSection.model_validate({"model": str(model), "max_tokens": 6, **values})


@pytest.mark.parametrize("kind", ["llava", "blip"])
def test_answers_depend_on_the_picture_alone(kind: str, request: pytest.FixtureRequest) -> None:
    model = VisionLanguageModel(settings(request.getfixturevalue(kind)))
    together = model.describe(PICTURES)
    assert model.chats == (kind == "llava")
    assert len(set(together)) > 1 and all(together)
    assert [model.describe([one])[0] for one in PICTURES] == together == model.describe(PICTURES)
    assert all(len(answer.split()) <= 6 for answer in together)


def test_decoding_is_greedy(llava: Path) -> None:
    """Token by token by hand: the likeliest after the prompt, appended, and again."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    captioner = VisionLanguageModel(settings(llava, prompt="a dog"))
    processor, model = AutoProcessor.from_pretrained(llava), AutoModelForImageTextToText.from_pretrained(llava)
    inputs = processor(images=PICTURES[:1], text=["USER <image> a dog ASSISTANT "], return_tensors="pt")
    ids = inputs["input_ids"]
    for _ in range(6):
        with torch.inference_mode():
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
    expected = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert captioner.describe(PICTURES[:1]) == [expected.strip()] and expected.strip()


def test_sampling_that_a_model_asks_for_is_not_done(llava: Path, tmp_path: Path) -> None:
    shutil.copytree(llava, tmp_path / "warm")
    file = tmp_path / "warm" / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "do_sample": True, "temperature": 50.0, "top_k": 9, "num_beams": 3}))
    assert VisionLanguageModel(settings(tmp_path / "warm")).describe(PICTURES) == VisionLanguageModel(settings(llava)).describe(PICTURES)


def test_what_a_model_is_asked(llava: Path, blip: Path) -> None:
    assert VisionLanguageModel(settings(llava, omit=["ink", "art"])).prompt == REQUEST.replace("{omit}", "ink, art")
    assert VisionLanguageModel(settings(llava, prompt="What? Not {omit}.", omit=["ink"])).prompt == "What? Not ink."
    assert VisionLanguageModel(settings(blip)).prompt == ""
    continued = VisionLanguageModel(settings(blip, prompt="a red")).describe(PICTURES)
    assert all(answer.startswith("a red ") for answer in continued)


def test_half_precision(llava: Path) -> None:
    model = VisionLanguageModel(settings(llava, precision="bf16"))
    assert model._model.dtype == torch.bfloat16 and len(model.describe(PICTURES)) == 3


# What cannot be used


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def another_kind(folder: Path) -> None:
    shutil.copyfile(embedded_weights("evaluator") / "config.json", folder / "config.json")


def own_code(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}')


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def missing_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "layers.0" not in name}, folder / "model.safetensors", {"format": "pt"})


def damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")


def no_processor(folder: Path) -> None:
    (folder / "processor_config.json").unlink()


BAD: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "pickled": (without_weights, ["no safetensors", "pickled", "save_pretrained"]),
    "a CLIP": (another_kind, ["a clip: not a model that turns images into text", "image-to-text"]),
    "its own code": (own_code, ["a mine with its own code, which is not run"]),
    "no JSON": (no_json, ["config.json cannot be read"]),
    "no configuration": (no_config, ["has no config.json"]),
    "missing weights": (missing_weights, ["lacks", "of its weights, such as", "layers.0"]),
    "damaged weights": (damaged_weights, ["cannot be loaded"]),
    "no processor": (no_processor, ["captions.model="]),
}


@pytest.mark.parametrize("case", BAD)
def test_models_that_cannot_be_used(case: str, llava: Path, tmp_path: Path) -> None:
    spoil, parts = BAD[case]
    shutil.copytree(llava, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(InputError) as caught:
        check_captioner(str(tmp_path / "model"), None)
        VisionLanguageModel(settings(tmp_path / "model"))
    assert all(part in str(caught.value) for part in [f"captions.model={tmp_path / 'model'}", *parts]), str(caught.value)


def test_places_that_hold_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    for model, revision, message in (
        ("./gone", None, "no such file or folder"), (str(tmp_path / "model.safetensors"), None, "is a file"),
        ("owner/name", None, "captions.revision: missing for the hub model owner/name"), ("owner/name", "main", "does not pin"),
        ("pocket", None, "not a model that turns images into text"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            check_captioner(model, revision)


def test_errors_while_describing(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = VisionLanguageModel(settings(llava, prompt="x"))
    for error, said in (
        (torch.OutOfMemoryError("CUDA out of memory"), r"does not fit into the memory.*Lower captions\.batch_size \(4\)"),
        (ImportError("\nNumWords requires the num2words library"), r"needs a package.*num2words.*captions\.md"),
        (ValueError("image tokens do not match"), r"cannot describe images \(image tokens do not match\).*Set captions\.prompt"),
    ):

        def fail(pictures: list[Image.Image], error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(model, "_inputs", fail)
        with pytest.raises(InputError, match=said):
            model.describe(PICTURES)


def test_captions_remember_a_folder_by_its_content(llava: Path, tmp_path: Path) -> None:
    shutil.copytree(llava, tmp_path / "llava")
    assert captioner_id(str(tmp_path / "llava"), None) == captioner_id(str(llava), None)
    assert captioner_id(str(llava), None).startswith("llava@sha256:") and captioner_id("a/b", "c" * 40) == f"a/b@{'c' * 40}"
    (tmp_path / "llava" / "chat_template.jinja").write_text("another")
    assert captioner_id(str(tmp_path / "llava"), None) != captioner_id(str(llava), None)
