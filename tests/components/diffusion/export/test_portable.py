import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from components.core.config import SamplingSection
from components.core.errors import InputError
from components.diffusion.export.comfy import SAMPLERS
from components.diffusion.export.formats import KOHYA_FILE
from components.diffusion.export.guided import Guided, guided
from components.diffusion.export.portable import FORMATS, check_format, formats_of, is_public, open_model, public_card, write_format
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.interpolation import weights_of
from components.diffusion.objectives.schedulers import DISCRETE, make_scheduler
from components.diffusion.sampling.jobs import PromptRequest
from tests.components.diffusion.conftest import Trained, edit, predict, predict_with

PROMPT = "a photo of {} style, a man"
WHOLE = ["diffusers", "single-file", "comfyui"]


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("single-styleforge", WHOLE), ("custom-diffusion", WHOLE), ("lora", ["diffusers", "single-file", "a1111-lora", "comfyui"]),
        ("textual-inversion", ["diffusers", "a1111-embedding", "comfyui"]), ("", WHOLE),
    ],
)  # fmt: skip
def test_every_other_format_is_refused_with_those_that_there_are(
    trained: Trained, tiny_base: Path, name: str, formats: list[str]
) -> None:  # fmt: skip
    model = open_model(trained(name) if name else tiny_base)
    assert formats_of(model) == formats
    why = f"method {name} has no .*expected --format {' or '.join(formats)}" if name else "what it trained is not recorded"
    for wanted in FORMATS:
        if wanted in formats:
            check_format(model, wanted, "export x")
        else:
            with pytest.raises(InputError, match=why) as caught:
                check_format(model, wanted, "export x")
            assert caught.value.exit_code == 2


def test_rotations_leave_as_whole_models_alone(trained: Trained, tmp_path: Path) -> None:
    model = open_model(trained("lora", lora={"kind": "oft"}))
    assert formats_of(model) == WHOLE
    with pytest.raises(InputError, match="its adapters are of kind oft, which no other program reads") as caught:
        check_format(model, "a1111-lora", "export x")
    assert caught.value.exit_code == 2
    write_format(model, "comfyui", "mine", tmp_path)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["mine.safetensors"]


@pytest.mark.parametrize("name", ["lora", "textual-inversion", "custom-diffusion", "single-styleforge"])
def test_files_of_each_format_are_the_whole_model(trained: Trained, tmp_path: Path, tiny_base: Path, name: str) -> None:
    folder = trained(name, **({"vectors": 2} if name == "textual-inversion" else {}))
    model = open_model(folder)
    write_format(model, "diffusers", "x", tmp_path / "out")
    prompt = PROMPT.format(model.tokens[0])
    wanted = predict(folder, prompt)
    assert (wanted - predict(tiny_base, prompt.replace("<", "").replace(">", ""))).abs().max() > 1e-3
    torch.testing.assert_close(predict_with(StableDiffusionPipeline.from_pretrained(tmp_path / "out"), prompt), wanted)
    torch.testing.assert_close(predict(tmp_path / "out", prompt), wanted)
    assert not list((tmp_path / "out").rglob("*.bin"))
    if name in ("lora", "textual-inversion"):
        kind, source, target = {
            "lora": ("a1111-lora", KOHYA_FILE, "mine.safetensors"), "textual-inversion": ("a1111-embedding", *("sks.safetensors",) * 2),
        }[name]  # fmt: skip
        (tmp_path / "own").mkdir()
        write_format(model, kind, "mine", tmp_path / "own")
        (file,) = (tmp_path / "own").iterdir()
        assert file.name == target and file.read_bytes() == (folder / source).read_bytes()
    if name in ("lora", "single-styleforge"):
        write_format(model, "single-file", "mine", tmp_path / "single")
        assert {path.name for path in (tmp_path / "single").iterdir()} == {"mine.safetensors", "mine"}
        torch.testing.assert_close(predict(tmp_path / "single" / "mine.safetensors", prompt), wanted)
    card = json.loads((tmp_path / "out" / "styleforge.json").read_text())
    assert (card["base"]["model"], card["save"], card["files"]) == ("tiny", "full", [])
    # What it was merged from is not beside it any more, so of the formats only whole ones are left.
    again = [wanted for wanted in formats_of(model) if wanted in ("diffusers", "single-file")]
    assert formats_of(open_model(tmp_path / "out")) == (WHOLE if name == "single-styleforge" else again[:1] if model.embeddings else again)


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
    assert load_bundle(tmp_path / "folder", device="cpu").family.denoiser.dtype == torch.float32


NODES = {
    "CheckpointLoaderSimple": 3, "LoraLoader": 2, "ModelSamplingDiscrete": 1, "CLIPTextEncode": 1, "EmptyLatentImage": 1, "KSampler": 1,
    "VAEDecode": 1, "SaveImage": 0,
}  # fmt: skip
"""Nodes of ComfyUI and how many outputs each has."""


@pytest.mark.parametrize(
    ("name", "files", "token"),
    [
        ("single-styleforge", {"checkpoints/mine.safetensors"}, "sks"),
        ("lora", {"checkpoints/tiny.safetensors", "loras/mine.safetensors"}, "sks"),
        ("textual-inversion", {"checkpoints/tiny.safetensors", "embeddings/sks.safetensors"}, "embedding:sks"),
        ("custom-diffusion", {"checkpoints/mine.safetensors", "embeddings/sks.safetensors"}, "embedding:sks"),
    ],
)
def test_comfyui_folder_holds_what_its_workflow_names(
    trained: Trained, tiny_base: Path, tmp_path: Path, name: str, files: set[str], token: str
) -> None:
    written = write_format(open_model(trained(name)), "comfyui", "mine", tmp_path)
    if "checkpoints/tiny.safetensors" in files:
        shutil.copytree(tiny_base, tmp_path / "checkpoints" / "tiny", ignore=shutil.ignore_patterns("*.safetensors"))
        torch.testing.assert_close(predict(tmp_path / "checkpoints" / "tiny.safetensors", "a man"), predict(tiny_base, "a man"))
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
    assert [nodes[sampler[key][0]]["inputs"]["text"] for key in ("positive", "negative")] == [
        f"a photo of {token} style, a house by a river",
        "a dog",
    ]


def test_v_prediction_gets_a_node_and_only_the_base_of_the_training_is_taken(trained: Trained, tmp_path: Path, tiny_v_base: Path) -> None:
    write_format(open_model(tiny_v_base), "comfyui", "mine", tmp_path)
    nodes = json.loads((tmp_path / "workflow.json").read_text())
    assert nodes[nodes["7"]["inputs"]["model"][0]] == {
        "class_type": "ModelSamplingDiscrete", "inputs": {"model": ["1", 0], "sampling": "v_prediction", "zsnr": False},
    }  # fmt: skip
    folder = Path(shutil.copytree(trained("lora"), tmp_path / "copy"))
    edit(folder / "styleforge.json", base={**json.loads((folder / "styleforge.json").read_text())["base"], "model": str(tiny_v_base)})
    for wanted in ("comfyui", "diffusers"):
        with pytest.raises(InputError, match="the base that it was trained on"):
            write_format(open_model(folder), wanted, "x", tmp_path / "out")


def test_names_of_samplers_and_of_models_that_others_have() -> None:
    assert set(SAMPLERS) == set(DISCRETE) == set(SamplingSection.model_json_schema()["properties"]["scheduler"]["anyOf"][0]["enum"])
    assert [is_public(name) for name in ("pocket", "pocket-flow", "owner/name", "/home/base", "./base")] == [True, True, True, False, False]
    assert public_card({"base": {"model": "owner/name"}})["base"]["model"] == "owner/name"


@pytest.mark.parametrize("name", DISCRETE)
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


CHAIN = {
    "start": "class",
    "branches": {"style": {"prompt": "a photo of {token} style"}, "class": {"prompt": "a photo of style"}},
    "terms": [{"scale": "guidance", "away_from": "class", "toward": "style"}, {"scale": 4, "away_from": "style", "toward": "prompt"}],
}


def test_guidance_by_three_prompts_is_a_node_of_comfyui_and_a_note_elsewhere(trained: Trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained("single-styleforge"), tmp_path / "model"))
    card = json.loads((folder / "styleforge.json").read_text())
    edit(folder / "styleforge.json", sampling={**card["sampling"], "guidance": 3.0, "guidance_formula": CHAIN})
    (tmp_path / "comfy").mkdir()
    written = write_format(open_model(folder), "comfyui", "mine", tmp_path / "comfy")
    nodes = json.loads((tmp_path / "comfy" / "workflow.json").read_text())
    guider = nodes[nodes["7"]["inputs"]["guider"][0]]
    inputs = guider["inputs"]
    text = {key: nodes[inputs[key][0]]["inputs"]["text"] for key in ("cond1", "cond2", "negative")}
    assert text == {
        "cond1": "a photo of sks style, a house by a river", "cond2": "a photo of sks style", "negative": "a photo of style",
    }  # fmt: skip
    # negative + 3 (cond2 − negative) + 4 (cond1 − cond2)
    assert (guider["class_type"], inputs["cfg_conds"], inputs["cfg_cond2_negative"], inputs["style"]) == ("DualCFGGuider", 4, 3, "regular")
    assert "two other prompts" in written.notes[-1]


def test_other_programs_get_what_they_can_express() -> None:
    request = PromptRequest("a", "x", "a man", "a photo of sks style, a man", ("sks",))

    def given(**changes: Any) -> Guided:
        return guided(SamplingSection(negative_prompt="a dog", guidance_formula={**CHAIN, **changes}), 3.0, request)

    assert guided(SamplingSection(negative_prompt="a dog"), 3.0, request) == Guided(3.0, "a dog")
    lost = given()
    assert (lost.scale, lost.negative) == (3.0, "a dog") and "cannot express" in lost.note and "class + 3 · (style − class)" in lost.note
    # Two branches are plain guidance in other words, however they are written.
    two = given(start="prompt", terms=[{"scale": "guidance - 1", "away_from": "style", "toward": "prompt"}])
    assert (two.scale, two.negative, two.middle) == (3.0, "a photo of sks style", None) and "cannot" not in two.note
    base = {"b": {"prompt": "", "weights": "base"}}
    early = {"scale": 2, "away_from": "negative", "toward": "prompt", "steps": [0, 0.5]}
    for terms in (
        [{"scale": 2, "away_from": "b", "toward": "prompt"}],
        [early],
    ):
        assert "cannot express" in given(start="prompt", branches=base, terms=terms).note


def test_a_strength_lies_between_the_base_and_the_model(trained: Trained, tmp_path: Path, tiny_base: Path) -> None:
    folder = trained("single-styleforge")
    base, whole = (weights_of(load_bundle(each, device="cpu").family) for each in (tiny_base, folder))
    written = write_format(open_model(folder, 0.25), "diffusers", "x", tmp_path / "out")
    assert any("0.25 times" in note for note in written.notes)
    assert json.loads((tmp_path / "out" / "styleforge.json").read_text())["strength"] == 0.25
    for key, value in weights_of(load_bundle(tmp_path / "out", device="cpu").family).items():
        torch.testing.assert_close(value, base[key] + 0.25 * (whole[key] - base[key]), rtol=0, atol=1e-6)
    write_format(open_model(trained("lora"), 0.5), "comfyui", "mine", tmp_path / "comfy")
    nodes = json.loads((tmp_path / "comfy" / "workflow.json").read_text())
    assert (nodes["2"]["inputs"]["strength_model"], nodes["2"]["inputs"]["strength_clip"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("lora", "a1111-lora", "programs that load this file have a strength of their own; expected --format diffusers or single"),
        ("textual-inversion", "diffusers", "it trained only new tokens, which the base does not have; expected a strength of 1"),
    ],
)  # fmt: skip
def test_a_strength_that_a_format_does_not_have(trained: Trained, name: str, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_format(open_model(trained(name), 0.5), target, "export x")
    assert caught.value.exit_code == 2


def test_stages_of_noise_in_comfyui_and_elsewhere(trained: Trained, tmp_path: Path) -> None:
    model = open_model(trained("textual-inversion", stages=2, initial_word="style"))
    write_format(model, "comfyui", "mine", tmp_path / "comfy")
    nodes = json.loads((tmp_path / "comfy" / "workflow.json").read_text())
    # The noisier half of the timesteps comes first, with the second stage's rows.
    (sampler,) = (node["inputs"] for node in nodes.values() if node["class_type"] == "KSampler")
    combined = nodes[sampler["positive"][0]]
    assert combined["class_type"] == "ConditioningCombine"
    for stage, (side, start, end) in enumerate((("conditioning_1", 0.5, 1.0), ("conditioning_2", 0.0, 0.5))):
        ranged = nodes[combined["inputs"][side][0]]
        assert ranged["class_type"] == "ConditioningSetTimestepRange"
        assert (ranged["inputs"]["start"], ranged["inputs"]["end"]) == (start, end)
        text = nodes[ranged["inputs"]["conditioning"][0]]["inputs"]["text"]
        assert f"embedding:sks-T{stage} style" in text and (tmp_path / "comfy" / "embeddings" / f"sks-T{stage}.safetensors").is_file()
    written = write_format(model, "a1111-embedding", "mine", tmp_path / "own")
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"sks-T0.safetensors", "sks-T1.safetensors"}
    assert any("<sks-T0> … <sks-T1>" in note for note in written.notes)
    assert model.for_one_stage("a <sks> style") == "a <sks-T1> style"
