import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.content import digest_folder
from components.core.errors import InputError
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.sources import locate
from tests.components.diffusion.conftest import edit


def refused(model: Path | str, pattern: str, revision: str | None = None) -> InputError:
    with pytest.raises(InputError, match=pattern) as caught:
        load_bundle(model, revision)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize(("base", "parts"), [("bundle", ("text_encoder",)), ("xl", ("text_encoder", "text_encoder_2"))])
def test_a_folder_loads_in_fp32_and_knows_its_shape(base: str, parts: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(base)
    assert (bundle.family.resolution, bundle.family.latent_shape()) == (32, (4, 16, 16))
    assert list(bundle.family.parts) == ["unet", "vae", *parts]
    for part in bundle.family.parts.values():
        assert not part.training
        assert {(value.dtype, value.requires_grad) for value in part.parameters()} == {(torch.float32, False)}


@pytest.mark.parametrize("base", ["tiny_base", "tiny_xl_base"])
def test_saving_keeps_every_bit_and_no_path_of_this_machine_and_diffusers_opens_it(
    base: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from diffusers import DiffusionPipeline

    origin: Path = request.getfixturevalue(base)
    bundle = load_bundle(origin, device="cpu")
    first = bundle.save(tmp_path / "a")
    again = load_bundle(first, device="cpu")
    assert digest_folder(first) == digest_folder(again.save(tmp_path / "b"))
    for name, part in bundle.family.parts.items():
        assert all(torch.equal(value, again.family.parts[name].state_dict()[key]) for key, value in part.state_dict().items())
    texts = [file.read_text() for file in first.rglob("*.json")]
    assert not any(str(tmp_path) in text or str(origin) in text for text in texts)
    pipeline = DiffusionPipeline.from_pretrained(first)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a man", num_inference_steps=1, height=32, width=32).images[0].size == (32, 32)
    if base == "tiny_xl_base":
        assert pipeline.tokenizer_2.pad_token == "!"
        assert pipeline.config.force_zeros_for_empty_prompt


def test_text_encoders_keep_the_names_that_published_bases_have(tiny_base: Path, tmp_path: Path) -> None:
    # Other programs find no weight under transformers' new names, and some take random ones without a word.
    saved = load_file(load_bundle(tiny_base, device="cpu").save(tmp_path / "a") / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in saved)
    before = load_file(tiny_base / "text_encoder" / "model.safetensors")
    assert set(saved) == set(before) and all(torch.equal(saved[name], value) for name, value in before.items())


def test_the_digest_follows_the_weights_and_nothing_else(copy: Path) -> None:
    before = load_bundle(copy, device="cpu").digest
    (copy / "notes.txt").write_text("hello")
    assert load_bundle(copy, device="cpu").digest == before
    edit(copy / "vae" / "config.json", scaling_factor=0.25)
    assert load_bundle(copy, device="cpu").digest != before


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler", "text_encoder_2", "tokenizer_2"])
def test_a_missing_part_is_named(xl_copy: Path, part: str) -> None:
    shutil.rmtree(xl_copy / part)
    assert "save the whole pipeline" in str(refused(xl_copy, f"no {'VAE' if part == 'vae' else part}")).lower()


def test_pickled_and_damaged_weights_are_refused_with_the_reason(copy: Path, tmp_path: Path) -> None:
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    refused(copy, "copy")
    file.rename(file.with_suffix(".bin"))
    refused(copy, r"diffusion_pytorch_model\.bin: pickled weights can run code")
    for name in ("model.ckpt", "model.bin", "model.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        refused(tmp_path / name, "pickled weights can run code")
    refused(copy / "unet", "pickled weights can run code")


def test_what_is_no_model_is_refused(copy: Path, tmp_path: Path) -> None:
    edit(copy / "scheduler" / "scheduler_config.json", prediction_type="sample")
    refused(copy, "prediction_type is 'sample'")
    edit(copy / "model_index.json", _class_name="KandinskyPipeline")
    refused(copy, "KandinskyPipeline")
    (tmp_path / "notes.txt").write_text("x")
    refused(tmp_path / "notes.txt", r"\.txt file is not a model")
    refused(tmp_path, r"no model_index\.json")
    for missing in (tmp_path / "nowhere", "neither-a-folder-nor-an-id"):
        refused(missing, "no such file or folder")
    for revision in (None, "main", "v1.5", "abc123"):
        assert "commit" in str(refused("someone/some-model", r"base\.revision", revision))


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"])
def test_a_missing_weight_is_named_and_never_made_up(copy: Path, file: str) -> None:
    # Left alone, the libraries put random numbers in its place and only log it.
    path = copy / f"{file}.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[3]
    save_file({key: value for key, value in tensors.items() if key != name}, path, metadata={"format": "pt"})
    refused(copy, rf"{file.partition('/')[0]}: lacks 1 of its weights, such as .*{name.removeprefix('text_model.')}")


def test_folders_as_older_libraries_wrote_them_load_to_the_same(copy: Path, tiny_base: Path) -> None:
    """Published bases: position ids among the text encoder's weights, a tokenizer in two files."""
    file = copy / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(tensors, file, metadata={"format": "pt"})
    whole = copy / "tokenizer" / "tokenizer.json"
    model = json.loads(whole.read_text())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (copy / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]))
    (copy / "tokenizer" / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    whole.unlink()
    old, new = load_bundle(copy, device="cpu").family, load_bundle(tiny_base, device="cpu").family
    prompts = ["a photo of sks style, painting of a house", ""]
    assert torch.equal(old.tokenize(prompts)["text_encoder"], new.tokenize(prompts)["text_encoder"])
    assert torch.equal(old.encode_prompts(prompts).states, new.encode_prompts(prompts).states)


def test_a_scheduler_with_infinite_settings_is_kept(copy: Path, tmp_path: Path) -> None:
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    DPMSolverMultistepScheduler(beta_schedule="scaled_linear").save_pretrained(copy / "scheduler")
    edit(copy / "model_index.json", scheduler=["diffusers", "DPMSolverMultistepScheduler"])
    saved = load_bundle(copy, device="cpu").save(tmp_path / "saved")
    scheduler = StableDiffusionPipeline.from_pretrained(saved).scheduler
    assert type(scheduler) is DPMSolverMultistepScheduler
    assert scheduler.config.lambda_min_clipped == float("-inf")


def test_a_fetched_hub_model_is_checked_like_any_folder(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, object] = {}

    def fetch(model: str, **options: object) -> str:
        asked.update(options, model=model)
        return str(copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert locate("someone/some-model", "0" * 40) == copy
    assert asked["revision"] == "0" * 40
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert not any(pattern.endswith((".bin", ".ckpt", "*")) for pattern in patterns)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(InputError, match="only safetensors were fetched: pickled weights can run code"):
        locate("someone/some-model", "0" * 40)
    shutil.rmtree(copy / "vae")
    with pytest.raises(InputError, match="no VAE"):
        locate("someone/some-model", "0" * 40)
