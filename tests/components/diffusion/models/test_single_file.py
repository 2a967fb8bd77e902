import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.errors import InputError, ServiceUnreachable
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.layouts import FILE_KINDS
from components.diffusion.models.sources import configuration_of, file_kind, locate
from tests.components.diffusion.conftest import edit
from tests.fixtures_original import KINDS, write_original


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)


def configuration(base: Path, folder: Path) -> Path:
    """The base without its weights: what has to lie beside a file. The index names parts that are not there, as published ones do."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    edit(folder / "model_index.json", feature_extractor=["transformers", "CLIPImageProcessor"])
    if not (folder / "tokenizer_2").exists():
        edit(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    return folder


@pytest.fixture
def checkpoint(bases: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def write(kind: str) -> Path:
        configuration(bases[kind], tmp_path / kind / "model")
        return write_original(bases[kind], tmp_path / kind / "model.safetensors", kind)

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_loads_to_the_very_weights(kind: str, checkpoint: Callable[[str], Path], bases: dict[str, Path], tmp_path: Path) -> None:
    file = checkpoint(kind)
    assert file_kind(file).title == KINDS[kind]
    assert locate(str(file)) == file
    loaded, wanted = load_bundle(file, device="cpu"), load_bundle(bases[kind], device="cpu")
    assert type(loaded.family) is type(wanted.family)
    assert loaded.family.objective.prediction_type == wanted.family.objective.prediction_type
    for name, part in wanted.family.parts.items():
        values = loaded.family.parts[name].state_dict()
        assert values.keys() == part.state_dict().keys()
        assert all(torch.equal(values[key], value) for key, value in part.state_dict().items()), name
    # What is saved is a folder like any other.
    digests = {load_bundle(model.save(tmp_path / name), device="cpu").digest for name, model in (("a", loaded), ("b", wanted))}
    assert len(digests) == 1


def test_the_configuration_may_be_the_folder_it_lies_in(bases: dict[str, Path], tmp_path: Path) -> None:
    folder = configuration(bases["sd1"], tmp_path / "both")
    file = write_original(bases["sd1"], folder / "model.safetensors", "sd1")
    assert configuration_of(file) == folder
    assert load_bundle(file, device="cpu").family.resolution == 32
    own = configuration(bases["sd1"], folder / "model")
    assert configuration_of(file) == own


def test_the_digest_follows_the_file_and_its_configuration(checkpoint: Callable[[str], Path]) -> None:
    file = checkpoint("sd1")
    before = load_bundle(file, device="cpu").digest
    (file.parent / "notes.txt").write_text("hello")
    assert load_bundle(file, device="cpu").digest == before
    edit(file.parent / "model" / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    after = load_bundle(file, device="cpu")
    assert after.digest != before
    assert after.family.objective.prediction_type == "v_prediction"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_a_file_without_a_part_or_a_weight_is_refused(checkpoint: Callable[[str], Path], bases: dict[str, Path], part: str) -> None:
    file = checkpoint("sdxl")
    tensors = load_file(file)
    prefix = FILE_KINDS[0].prefixes[part]
    names = [name for name in tensors if name.startswith(prefix)]
    one = next(name for name in names if name.endswith(("conv_in.weight", "input_blocks.0.0.weight", "fc1.weight", "c_fc.weight")))
    save_file({name: value for name, value in tensors.items() if name != one}, file)
    with pytest.raises(InputError, match=r"lacks 1 weights of the|cannot be loaded"):
        load_bundle(file)
    save_file({name: value for name, value in tensors.items() if name not in names}, file)
    with pytest.raises(InputError, match="VAE" if part == "vae" else part if part == "unet" else "not a known checkpoint|refiner"):
        load_bundle(file)
    if part == "vae":
        # What the file lacks may lie beside it.
        shutil.copytree(bases["sdxl"] / part, file.parent / "model" / part, dirs_exist_ok=True)
        assert load_bundle(file, device="cpu").family.vae.config.latent_channels == 4


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["lora_unet_down_blocks_0.lora_up.weight"], "this is a LoRA"),
        (["emb_params"], "textual-inversion embedding"),
        (["model.diffusion_model.x", "first_stage_model.x", "conditioner.embedders.0.model.x"], "refiner"),
        (["something.else"], r"not a known checkpoint \(its tensors: something\.else, …\)"),
    ],
)
def test_what_is_no_base_is_named(tmp_path: Path, names: list[str], pattern: str) -> None:
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=pattern):
        locate(str(tmp_path / "x.safetensors"))


def test_without_a_configuration_the_pinned_one_is_fetched(bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    file = write_original(bases["sdxl"], tmp_path / "xl.safetensors", "sdxl")
    with pytest.raises(ServiceUnreachable, match=r"xl/, or give a diffusers folder") as caught:
        load_bundle(file)
    assert caught.value.exit_code == 4
    asked: dict[str, Any] = {}

    def fetch(model: str, **options: Any) -> str:
        asked.update(options, model=model)
        return str(configuration(bases["sdxl"], tmp_path / "fetched"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert configuration_of(file) == tmp_path / "fetched"
    assert (asked["model"], asked["revision"]) == FILE_KINDS[0].configuration
    # Not a byte of weights.
    assert not any("safetensors" in pattern or pattern.endswith("*") for pattern in asked["allow_patterns"])


def test_what_does_not_fit_a_file_is_refused(checkpoint: Callable[[str], Path], bases: dict[str, Path], tmp_path: Path) -> None:
    file = checkpoint("sd1")
    tensors = load_file(file)

    def refused(message: str, model: Path = file) -> None:
        with pytest.raises(InputError, match=message) as caught:
            load_bundle(model)
        assert caught.value.exit_code == 2

    save_file({name: value.half() for name, value in tensors.items()}, file)
    family = load_bundle(file, device="cpu").family
    assert {value.dtype for part in family.parts.values() for value in part.parameters()} == {torch.float32}
    save_file({**tensors, "v_pred": torch.zeros(1)}, file)
    refused("marked as v-prediction")
    # diffusers takes a part that the file lacks from the configuration's folder, pickled or not.
    rest = {name: value for name, value in tensors.items() if not name.startswith("cond_stage_model.")}
    save_file({**rest, "cond_stage_model.transformer.x": torch.zeros(1)}, file)
    (file.parent / "model" / "text_encoder" / "pytorch_model.bin").write_bytes(b"not even a pickle")
    refused(r"model\.safetensors.*cannot be loaded")
    save_file(tensors, file)
    edit(file.parent / "model" / "unet" / "config.json", block_out_channels=[8, 32])
    refused("cannot be loaded with the configuration in")
    shutil.rmtree(file.parent / "model")
    configuration(bases["sdxl"], file.parent / "model")
    refused(r"another family than model\.safetensors, a Stable Diffusion 1\.x file")
    file.write_bytes(file.read_bytes()[:500])
    refused("not an intact safetensors file")
    pickled = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}}, pickled)
    refused("pickled weights can run code", pickled)
    # Renaming it does not help.
    refused("not an intact safetensors file", pickled.rename(tmp_path / "renamed.safetensors"))
    refused("the weights do not show which", write_original(bases["sd2"], tmp_path / "x.safetensors", "sd2"))
