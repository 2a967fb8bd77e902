"""Trained models in the formats of other programs: loaded from there, they draw what the model draws."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from components.core.config import SamplingSection
from components.core.errors import InputError
from components.diffusion.export.comfy import SAMPLERS
from components.diffusion.export.formats import KOHYA_FILE
from components.diffusion.export.portable import FORMATS, check_format, formats_of, is_public, open_model, public_card, write_format
from components.diffusion.models.bundle import load_bundle
from components.diffusion.sampling.schedulers import SCHEDULERS, make_scheduler
from tests.components.diffusion.conftest import Trained, predict, predict_with

PROMPT = "a photo of {} style, a man"
WHOLE = ["diffusers", "single-file", "comfyui"]


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("single-styleforge", WHOLE), ("custom-diffusion", WHOLE), ("lora", ["diffusers", "single-file", "a1111-lora", "comfyui"]),
        ("textual-inversion", ["diffusers", "a1111-embedding", "comfyui"]),
    ],
)  # fmt: skip
def test_every_other_format_is_refused_with_those_that_there_are(trained: Trained, name: str, formats: list[str]) -> None:
    model = open_model(trained(name))
    assert formats_of(model) == formats
    for wanted in FORMATS:
        if wanted in formats:
            check_format(model, wanted, "export x")
        else:
            with pytest.raises(InputError, match=f"method {name} has no {wanted}.*expected --format {' or '.join(formats)}") as caught:
                check_format(model, wanted, "export x")
            assert caught.value.exit_code == 2


def test_a_base_has_no_files_of_what_was_trained(tiny_base: Path) -> None:
    assert formats_of(open_model(tiny_base)) == WHOLE
    with pytest.raises(InputError, match="nothing is recorded of what it trained"):
        check_format(open_model(tiny_base), "a1111-lora", "x")


@pytest.mark.parametrize("name", ["lora", "textual-inversion", "custom-diffusion", "single-styleforge"])
def test_diffusers_folder_is_the_whole_model(trained: Trained, tmp_path: Path, tiny_base: Path, name: str) -> None:
    folder = trained(name, **({"vectors": 2} if name == "textual-inversion" else {}))
    model = open_model(folder)
    write_format(model, "diffusers", "x", tmp_path / "out")
    prompt = PROMPT.format(model.tokens[0])
    wanted = predict(folder, prompt)
    assert (wanted - predict(tiny_base, prompt.replace("<", "").replace(">", ""))).abs().max() > 1e-3
    torch.testing.assert_close(predict_with(StableDiffusionPipeline.from_pretrained(tmp_path / "out"), prompt), wanted)
    torch.testing.assert_close(predict(tmp_path / "out", prompt), wanted)
    assert not list((tmp_path / "out").rglob("*.bin"))
    # What it was merged from is not beside it any more, so of the formats only whole ones are left.
    again = [wanted for wanted in formats_of(model) if wanted in ("diffusers", "single-file")]
    assert formats_of(open_model(tmp_path / "out")) == (WHOLE if name == "single-styleforge" else again[:1] if model.embeddings else again)


def test_the_record_names_no_folder_of_this_machine(trained: Trained, tmp_path: Path, tiny_base: Path) -> None:
    write_format(open_model(trained("lora")), "diffusers", "x", tmp_path / "out")
    written = "".join(file.read_text() for file in (tmp_path / "out").rglob("*.json"))
    assert str(tiny_base.parent) not in written
    card = json.loads((tmp_path / "out" / "styleforge.json").read_text())
    assert (card["base"]["model"], card["save"], card["files"]) == ("tiny", "full", [])
    assert is_public("pocket") and is_public("owner/name") and not is_public(str(tiny_base)) and not is_public("./base")
    assert public_card({"base": {"model": "owner/name"}})["base"]["model"] == "owner/name"


@pytest.mark.parametrize("name", ["lora", "single-styleforge"])
def test_the_single_file_is_the_whole_model(trained: Trained, tmp_path: Path, name: str) -> None:
    folder = trained(name)
    out = tmp_path / "out"
    write_format(open_model(folder), "single-file", "mine", out)
    assert {path.name for path in out.iterdir()} == {"mine.safetensors", "mine"}
    assert not list((out / "mine").rglob("*.safetensors"))
    wanted = predict(folder, PROMPT.format("sks"))
    torch.testing.assert_close(predict(out / "mine.safetensors", PROMPT.format("sks")), wanted)


def test_a_single_file_has_a_table_of_the_bases_size_and_embeddings_beside_it(trained: Trained, tmp_path: Path, tiny_base: Path) -> None:
    folder = trained("custom-diffusion", vectors=2)
    written = write_format(open_model(folder), "single-file", "mine", tmp_path)
    assert written.embeddings == {"<sks>": ("sks.safetensors", ["emb_params"])}
    rows = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    table = load_bundle(tiny_base, device="cpu").family.text_encoders["text_encoder"].get_input_embeddings().weight
    assert torch.equal(load_file(tmp_path / "mine.safetensors")[rows], table)
    pipeline = StableDiffusionPipeline.from_single_file(str(tmp_path / "mine.safetensors"), config=str(tmp_path / "mine"))
    assert len(pipeline.tokenizer) == len(table)
    pipeline.load_textual_inversion(tmp_path / "sks.safetensors", token="<sks>")
    prompt = PROMPT.format("<sks>")
    torch.testing.assert_close(predict_with(pipeline, prompt), predict(folder, prompt))


@pytest.mark.parametrize(
    ("name", "wanted", "source", "target"),
    [
        ("lora", "a1111-lora", KOHYA_FILE, "mine.safetensors"),
        ("textual-inversion", "a1111-embedding", "sks.safetensors", "sks.safetensors"),
    ],
)
def test_lora_and_embedding_files_are_those_of_the_model(
    trained: Trained, tmp_path: Path, name: str, wanted: str, source: str, target: str
) -> None:
    folder = trained(name)
    write_format(open_model(folder), wanted, "mine", tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name == target and file.read_bytes() == (folder / source).read_bytes()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_whole_networks_in_half_precision(trained: Trained, tmp_path: Path, dtype: str) -> None:
    model = open_model(trained("single-styleforge"))
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    write_format(model, "diffusers", "x", tmp_path / "folder", dtype)
    write_format(model, "single-file", "x", tmp_path / "file", dtype)
    files = [*(tmp_path / "folder").rglob("*.safetensors"), tmp_path / "file" / "x.safetensors"]
    assert len(files) == 4
    for file in files:
        assert {value.dtype for value in load_file(file).values()} == {wanted}
    assert load_bundle(tmp_path / "folder", device="cpu").family.network.dtype == torch.float32


NODES = {
    "CheckpointLoaderSimple": 3, "LoraLoader": 2, "ModelSamplingDiscrete": 1, "CLIPTextEncode": 1, "EmptyLatentImage": 1, "KSampler": 1,
    "VAEDecode": 1, "SaveImage": 0,
}  # fmt: skip
"""Nodes of ComfyUI and how many outputs each has."""


@pytest.mark.parametrize(
    ("name", "files", "prompt"),
    [
        ("single-styleforge", {"checkpoints/mine.safetensors"}, "a photo of sks style, a house by a river"),
        ("lora", {"checkpoints/tiny.safetensors", "loras/mine.safetensors"}, "a photo of sks style, a house by a river"),
        (
            "textual-inversion", {"checkpoints/tiny.safetensors", "embeddings/sks.safetensors"},
            "a photo of embedding:sks style, a house by a river",
        ),
        (
            "custom-diffusion", {"checkpoints/mine.safetensors", "embeddings/sks.safetensors"},
            "a photo of embedding:sks style, a house by a river",
        ),
    ],
)  # fmt: skip
def test_comfyui_folder_holds_what_its_workflow_names(trained: Trained, tmp_path: Path, name: str, files: set[str], prompt: str) -> None:
    written = write_format(open_model(trained(name)), "comfyui", "mine", tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.safetensors")} == files
    assert "another size" in written.notes[0]
    nodes = json.loads((tmp_path / "workflow.json").read_text())
    for node in nodes.values():
        for value in node["inputs"].values():
            if isinstance(value, list):
                source, output = value
                assert output < NODES[nodes[source]["class_type"]]
    kinds = [node["class_type"] for node in nodes.values()]
    assert set(kinds) == set(NODES) - {"ModelSamplingDiscrete"} - ({"LoraLoader"} if name != "lora" else set())
    named = {f"checkpoints/{node['inputs']['ckpt_name']}" for node in nodes.values() if "ckpt_name" in node["inputs"]}
    named |= {f"loras/{node['inputs']['lora_name']}" for node in nodes.values() if "lora_name" in node["inputs"]}
    assert named == {file for file in files if not file.startswith("embeddings/")}
    sampler = nodes["7"]["inputs"]
    assert (sampler["steps"], sampler["cfg"], sampler["sampler_name"]) == (3, 7.5, "dpmpp_2m")
    assert [nodes[sampler[key][0]]["inputs"]["text"] for key in ("positive", "negative")] == [prompt, "a dog"]


def test_the_checkpoint_beside_a_lora_is_its_base(trained: Trained, tmp_path: Path, tiny_base: Path) -> None:
    write_format(open_model(trained("lora")), "comfyui", "mine", tmp_path)
    file = shutil.copyfile(tmp_path / "checkpoints" / "tiny.safetensors", tmp_path / "base.safetensors")
    shutil.copytree(tiny_base, tmp_path / "base", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.testing.assert_close(predict(file, "a man"), predict(tiny_base, "a man"))


def test_v_prediction_gets_a_node(tiny_v_base: Path, tmp_path: Path) -> None:
    write_format(open_model(tiny_v_base), "comfyui", "mine", tmp_path)
    nodes = json.loads((tmp_path / "workflow.json").read_text())
    assert nodes[nodes["7"]["inputs"]["model"][0]] == {
        "class_type": "ModelSamplingDiscrete", "inputs": {"model": ["1", 0], "sampling": "v_prediction", "zsnr": False},
    }  # fmt: skip


def test_another_base_in_the_place_of_the_lost_one_is_refused(trained: Trained, tmp_path: Path, tiny_v_base: Path) -> None:
    folder = shutil.copytree(trained("lora"), tmp_path / "copy")
    card = json.loads((folder / "styleforge.json").read_text())
    card["base"]["model"] = str(tiny_v_base)
    (folder / "styleforge.json").write_text(json.dumps(card))
    for wanted in ("comfyui", "diffusers"):
        with pytest.raises(InputError, match="the base that it was trained on"):
            write_format(open_model(folder), wanted, "x", tmp_path / "out")


def test_every_sampler_has_one_in_comfyui() -> None:
    assert set(SAMPLERS) == set(SCHEDULERS) == set(SamplingSection.model_json_schema()["properties"]["scheduler"]["enum"])


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("base", ["EulerDiscreteScheduler", "PNDMScheduler", "DDIMScheduler"])
def test_schedulers_by_their_options_are_ours(trained: Trained, tmp_path: Path, name: str, base: str) -> None:
    """diffusers carries settings over from the base's scheduler, such as where its timesteps lie; the options undo that."""
    import diffusers

    own = getattr(diffusers, base)(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1)
    own.register_to_config(timestep_spacing="leading", **({"clip_sample": True} if base.startswith("DDIM") else {}))
    folder = tmp_path / "model"
    folder.mkdir()
    for file in trained("lora").glob("*.*"):
        shutil.copyfile(file, folder / file.name)
    card = json.loads((folder / "styleforge.json").read_text())
    own.save_pretrained(tmp_path / "base" / "scheduler")
    wanted = make_scheduler(name, json.loads((tmp_path / "base" / "scheduler" / "scheduler_config.json").read_text()))
    wanted.set_timesteps(7)
    loaded = getattr(diffusers, base).from_pretrained(tmp_path / "base" / "scheduler")
    # Where the base lies on this machine, and where only its name on the hub is known.
    for model in (str(tmp_path / "base"), "owner/name"):
        card |= {"base": {**card["base"], "model": model}, "sampling": {**card["sampling"], "scheduler": name}}
        (folder / "styleforge.json").write_text(json.dumps(card))
        (tmp_path / "out").mkdir(exist_ok=True)
        written = write_format(open_model(folder), "a1111-lora", "x", tmp_path / "out")
        theirs = getattr(diffusers, written.scheduler).from_config(loaded.config, **written.scheduler_options)
        theirs.set_timesteps(7)
        assert theirs.timesteps.tolist() == wanted.timesteps.tolist()
        # Settings that a scheduler does not know are kept as notes.
        known = set(inspect.signature(type(wanted).__init__).parameters) - {"self"}
        assert {key: theirs.config[key] for key in known} == {key: wanted.config[key] for key in known}
