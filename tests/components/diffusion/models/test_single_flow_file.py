"""Files of the flow families: the transformer alone, or all networks, in the original layout."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from components.core.errors import InputError
from components.diffusion.export.portable import open_model, write_format
from components.diffusion.models.bundle import load_bundle, load_weights
from components.diffusion.models.sources import base_configuration, base_facts, content_digest, file_kind, locate
from components.diffusion.planning.shapes import family_from_configuration
from tests.components.diffusion.conftest import configure, edit, train, write_folders
from tests.components.diffusion.models.flow_bases import BASES
from tests.fixtures_original import FLOWS, WIDTHS, narrow, write_flow, write_whole
from tests.tiny_bases import tiny_clip_text, tiny_flux_folder, tiny_sd3_folder

PREFIX = "model.diffusion_model."


@pytest.fixture(autouse=True)
def narrow_conversions(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' conversions of two families know one width."""
    for name, widths in WIDTHS.items():
        convert = SINGLE_FILE_LOADABLE_CLASSES[name]["checkpoint_mapping_fn"]
        monkeypatch.setitem(SINGLE_FILE_LOADABLE_CLASSES[name], "checkpoint_mapping_fn", narrow(convert, widths))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


@pytest.fixture(scope="module")
def flow_bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("flow")
    bases = {name: BASES[name].make(root / name) for name in FLOWS}
    # Of this family's files diffusers reads the first CLIP without its projection, as the family's own code runs it.
    bases["sd3-whole"] = tiny_sd3_folder(root / "sd3-whole", pooled_projection_dim=28)
    first: CLIPTextModelWithProjection = tiny_clip_text(CLIPTokenizer.from_pretrained(root / "sd3-whole" / "tokenizer"), 16, 16)
    torch.nn.init.eye_(first.text_projection.weight)
    first.save_pretrained(root / "sd3-whole" / "text_encoder")
    return bases


def beside(base: Path, folder: Path, *without: str) -> Path:
    """The base's folder without the weights of these parts."""
    shutil.copytree(base, folder)
    for part in without:
        for weights in (folder / part).glob("*.safetensors"):
            weights.unlink()
    return folder


def file_of(bases: dict[str, Path], name: str, tmp_path: Path, prefix: str = "") -> Path:
    """A file with the transformer alone, and the rest of the base beside it."""
    beside(bases[name], tmp_path / "model", "transformer")
    return write_flow(bases[name], tmp_path / "model.safetensors", name, prefix)


def assert_same(file: Path, folder: Path) -> None:
    loaded, expected = load_bundle(file, device="cpu").family, load_bundle(folder, device="cpu").family
    assert type(loaded) is type(expected) and loaded.parts.keys() == expected.parts.keys()
    for name, part in expected.parts.items():
        values = loaded.parts[name].state_dict()
        assert values.keys() == part.state_dict().keys()
        assert all(torch.equal(values[key], value) for key, value in part.state_dict().items()), name
    noise = torch.randn((1, *expected.latent_shape()), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = (family.predict(noise, torch.tensor(500.0), family.encode_prompts(["a dog"])) for family in (loaded, expected))
    # Not always to the bit: some processors round differently where the weights lie differently in memory.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("name", FLOWS)
def test_a_transformer_alone_loads_to_the_very_weights(flow_bases: dict[str, Path], tmp_path: Path, name: str, prefix: str) -> None:
    file = file_of(flow_bases, name, tmp_path, prefix)
    assert locate(str(file)) == file
    assert_same(file, flow_bases[name])


@pytest.mark.parametrize("name", ["sd3-whole", "flux-dev"])
def test_a_whole_file_needs_no_weights_beside_it(flow_bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = beside(flow_bases[name], tmp_path / "model", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
    file = write_whole(flow_bases[name], folder.with_suffix(".safetensors"), name.removesuffix("-whole"))
    assert_same(file, flow_bases[name])
    # A T5 that the file lacks comes from the folder.
    *_, last = sorted(part.name for part in folder.glob("text_encoder*"))
    save_file({key: value for key, value in load_file(file).items() if not key.startswith("text_encoders.t5xxl.")}, file)
    with pytest.raises(InputError, match=f"without {last}, and .*model has no weights of it"):
        load_bundle(file, device="cpu")
    shutil.copytree(flow_bases[name] / last, folder / last, dirs_exist_ok=True)
    assert_same(file, flow_bases[name])


def test_a_family_without_its_optional_encoder(tmp_path: Path) -> None:
    base = tiny_sd3_folder(tmp_path / "base", t5=False)
    assert_same(file_of({"sd3": base}, "sd3", tmp_path), base)


@pytest.mark.parametrize("name", FLOWS)
def test_a_plan_reads_names_and_configuration_alone(flow_bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    file = file_of(flow_bases, name, tmp_path)
    save_file({key: torch.zeros(1) for key in load_file(file)}, file)
    for weights in (tmp_path / "model").rglob("*.safetensors"):
        weights.write_bytes(b"not read")
    assert base_facts(str(file)) == base_facts(str(flow_bases[name]))
    planned, described = (family_from_configuration(base_configuration(str(model))) for model in (file, flow_bases[name]))
    assert planned.denoiser.num_parameters() == described.denoiser.num_parameters()


def test_the_digest_follows_the_file_and_what_comes_from_the_folder(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    file, folder = file_of(flow_bases, "z-image", tmp_path), tmp_path / "model"
    digests = [content_digest(file)]
    (folder / "notes.txt").write_text("no part of it")
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"not read: the file holds it")
    assert content_digest(file) == digests[0]
    edit(folder / "scheduler" / "scheduler_config.json", shift=2.0)
    digests.append(content_digest(file))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({key: value + 1 for key, value in load_file(weights).items()}, weights)
    digests.append(content_digest(file))
    save_file({key: value + 1 for key, value in load_file(file).items()}, file)
    digests.append(content_digest(file))
    assert len({*digests}) == 4


def test_a_lora_trained_on_a_file_is_that_trained_on_the_folder(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    file = file_of(flow_bases, "z-image", tmp_path)
    folders = write_folders(tmp_path / "run")
    settings = {"method": {"name": "lora"}, "training": {"steps": 2, "learning_rate": 0.02}}
    by_file, by_folder = (
        train(configure(base, **settings), folders, name) for base, name in ((file, "file"), (flow_bases["z-image"], "folder"))
    )
    for saved in ("delta.safetensors", "pytorch_lora_weights.safetensors"):
        ours, theirs = load_file(by_file / saved), load_file(by_folder / saved)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert_same(by_file, by_folder)
    edit(tmp_path / "model" / "scheduler" / "scheduler_config.json", shift=2.0)
    with pytest.raises(InputError, match="was trained on the base"):
        load_bundle(by_file, device="cpu")


def test_what_is_exported_without_its_base_names_the_files_scheduler(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    file = file_of(flow_bases, "sd3", tmp_path)
    out = train(configure(file, method={"name": "textual-inversion"}, training={"steps": 1}), write_folders(tmp_path / "run"))
    written = write_format(open_model(out), "a1111-embedding", "mine", tmp_path / "embedding")
    assert written.scheduler == "FlowMatchEulerDiscreteScheduler"


def test_types_are_those_of_the_parts(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    file = file_of(flow_bases, "sd3", tmp_path)
    tensors = load_file(file)
    for held in (torch.float8_e4m3fn, torch.bfloat16):
        save_file({key: value.to(held) for key, value in tensors.items()}, file)
        rounded = {key: value.to(held).float() for key, value in tensors.items()}
        family = load_weights(file).family
        assert {value.dtype for part in family.parts.values() for value in part.parameters()} == {torch.float32}
        assert torch.equal(family.denoiser.context_embedder.weight, rounded["context_embedder.weight"])
        assert torch.equal(family.denoiser.transformer_blocks[0].attn.to_q.weight, rounded["joint_blocks.0.x_block.attn.qkv.weight"][:32])


Z_IMAGE = ("layers.0.adaLN_modulation.0.weight", "cap_embedder.0.weight")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["double_blocks.0.img_attn.qkv.weight", "single_stream_modulation.lin.weight", "guidance_in.in_layer.weight"], r"FLUX\.2 dev"),
        (["distilled_guidance_layer.norms.0.scale", "double_blocks.0.img_attn.qkv.weight"], "Chroma"),
        ([f"{PREFIX}double_blocks.0.x"], "a transformer of the Flux kind"),
        (["transformer_blocks.0.attn.to_q.weight"], "a transformer of a diffusers folder"),
        (["transformer.layers.0.attention.to_q.lora_A.weight"], "a LoRA"),
        (["diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight"], "a LoRA"),
        ([*Z_IMAGE, "layers.0.attention.qkv.weight_scale"], r"quantized \(it holds layers\.0\.attention\.qkv\.weight_scale\)"),
        ([*Z_IMAGE, "scaled_fp8"], "quantized"),
        ([*Z_IMAGE, "text_encoders.qwen3_4b.transformer.model.norm.weight"], r"also holds text_encoders\.qwen3_4b\.transformer"),
        ([f"{PREFIX}{Z_IMAGE[0]}", f"{PREFIX}{Z_IMAGE[1]}"], "without VAE, text_encoder; expected a diffusers folder beside it"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    file = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(1) for name in names}, file)
    with pytest.raises(InputError, match=message) as caught:
        base_facts(str(file))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", FLOWS)
def test_each_kind_is_told_from_the_others(flow_bases: dict[str, Path], tmp_path: Path, name: str) -> None:
    for prefix in ("", PREFIX):
        assert (
            file_kind(write_flow(flow_bases[name], tmp_path / "x.safetensors", name, prefix)).layout
            is base_facts(str(flow_bases[name])).layout
        )


def test_parts_without_weights_are_named_at_once_and_never_unpickled(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    file = file_of(flow_bases, "flux-dev", tmp_path)
    folder = tmp_path / "model"
    for part in ("vae", "text_encoder_2"):
        for weights in (folder / part).glob("*.safetensors"):
            weights.unlink()
    for use in (load_bundle, content_digest):
        with pytest.raises(InputError, match=r"without VAE, text_encoder_2, and .*model has no weights of them;"):
            use(file)
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(InputError, match=r"as safetensors \(diffusion_pytorch_model\.bin: pickled weights can run code"):
        load_bundle(file)


def test_a_configuration_of_another_model_of_the_family(flow_bases: dict[str, Path], tmp_path: Path) -> None:
    # Left to diffusers, tensors without a place are left out, and what remains is another, worse model.
    file = file_of(flow_bases, "flux-dev", tmp_path)
    schnell = tiny_flux_folder(tmp_path / "schnell", guided=False)
    for part in ("transformer", "scheduler"):
        shutil.copytree(schnell / part, tmp_path / "model" / part, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"of its transformer 4 tensors do not fit, such as time_text_embed\.guidance_embedder"):
        load_bundle(file)
    shutil.copytree(flow_bases["flux-dev"] / "transformer", tmp_path / "model" / "transformer", dirs_exist_ok=True)
    edit(tmp_path / "model" / "transformer" / "config.json", num_single_layers=3)
    with pytest.raises(InputError, match=r"lacks .* weights of the transformer"):
        load_bundle(file)
    edit(tmp_path / "model" / "transformer" / "config.json", num_single_layers=1)
    with pytest.raises(InputError, match="do not fit, such as single_transformer_blocks"):
        load_bundle(file)
    shutil.copytree(flow_bases["z-image"], tmp_path / "other")
    with pytest.raises(InputError, match=r"another family than other\.safetensors, a FLUX\.1 file"):
        load_bundle(shutil.copy(file, tmp_path / "other.safetensors"))
