import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from components.core.config import LoraSection
from components.diffusion.export.formats import KOHYA_FILE, LORA_FILE, embedding, file_stem, kohya_lora, sort_metadata
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.layouts import STABLE_DIFFUSION, STABLE_DIFFUSION_3
from components.diffusion.training.recipe import Recipe
from tests.components.diffusion.conftest import Trained, predict, predict_with

PIPELINES: dict[str, Any] = {"tiny_base": StableDiffusionPipeline, "tiny_xl_base": StableDiffusionXLPipeline}


# diffusers leaves the magnitudes of kohya's DoRA files out, with a warning, so its own format alone carries DoRA to it.
@pytest.mark.parametrize(
    ("base", "file", "dora"),
    [
        ("tiny_base", LORA_FILE, False), ("tiny_base", LORA_FILE, True), ("tiny_base", KOHYA_FILE, False),
        ("tiny_xl_base", LORA_FILE, False), ("tiny_xl_base", KOHYA_FILE, False),
    ],
)  # fmt: skip
def test_lora_is_taken_by_load_lora_weights(trained: Trained, request: pytest.FixtureRequest, base: str, file: str, dora: bool) -> None:
    folder: Path = request.getfixturevalue(base)
    out = trained("lora", folder, train_text_encoder=True, lora={"rank": 2, "alpha": 6, "dora": dora})
    pipeline = PIPELINES[base].from_pretrained(folder)
    prompt = "a photo of sks style"
    plain = predict_with(pipeline, prompt)
    pipeline.load_lora_weights(out, weight_name=file)
    wanted = predict(out, prompt)
    assert (wanted - plain).abs().max() > 1e-3
    torch.testing.assert_close(predict_with(pipeline, prompt), wanted, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("name", ["textual-inversion", "custom-diffusion"])
def test_embeddings_are_taken_by_load_textual_inversion(trained: Trained, tiny_base: Path, name: str) -> None:
    out = trained(name, vectors=2, identifier="my style")
    file = out / "my_style.safetensors"
    saved = load_file(file)
    assert list(saved) == ["emb_params"]
    assert saved["emb_params"].shape == (2, 16)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base)
    pipeline.load_textual_inversion(out, weight_name=file.name, token="<my style>")
    states = pipeline.encode_prompt("a photo of <my style> style", "cpu", 1, False)[0]
    if name == "textual-inversion":
        torch.testing.assert_close(states, load_bundle(out).family.encode_prompts(["a photo of <my style> style"]).states)
    assert json.loads((out / "styleforge.json").read_text())["files"] == [file.name]


def test_a_base_with_two_text_encoders_has_an_embedding_of_each(trained: Trained, tiny_xl_base: Path) -> None:
    out = trained("textual-inversion", tiny_xl_base)
    saved = load_file(out / "sks.safetensors")
    encoders = load_bundle(tiny_xl_base).family.text_encoders
    widths = [encoder.config.hidden_size for encoder in encoders.values()]
    assert {key: tuple(value.shape) for key, value in saved.items()} == {"clip_l": (1, widths[0]), "clip_g": (1, widths[1])}


def test_names_by_hand() -> None:
    layer = "unet.mid.to_out.0"
    tensors = {
        f"{layer}.lora_A.weight": torch.ones(2, 4), f"{layer}.lora_B.weight": torch.ones(4, 2),
        f"{layer}.lora_magnitude_vector.weight": torch.ones(4),
        "text_encoder.encoder.layers.0.q_proj.lora_A.weight": torch.ones(2, 4),
    }  # fmt: skip
    recipe = Recipe(frozenset({"denoiser.low-rank"}), lora=LoraSection(rank=2, alpha=6))
    assert set(kohya_lora(tensors, recipe, two_encoders=False)) == {
        "lora_unet_mid_to_out_0.lora_down.weight", "lora_unet_mid_to_out_0.lora_up.weight", "lora_unet_mid_to_out_0.alpha",
        "lora_unet_mid_to_out_0.dora_scale", "lora_te_text_model_encoder_layers_0_q_proj.lora_down.weight",
        "lora_te_text_model_encoder_layers_0_q_proj.alpha",
    }  # fmt: skip
    assert kohya_lora(tensors, recipe, two_encoders=False)["lora_unet_mid_to_out_0.dora_scale"].shape == (4, 1)
    assert kohya_lora(tensors, recipe, two_encoders=True)["lora_te1_text_model_encoder_layers_0_q_proj.alpha"] == 6
    assert file_stem("<sks>") == "sks" and file_stem("<a/b c>") == "a_b_c"
    rows = {"text_encoder.tokens.<a>": torch.zeros(1, 2), "text_encoder.tokens.<b>": torch.ones(1, 2)}
    assert embedding("<b>", rows, STABLE_DIFFUSION)["emb_params"].sum() == 2
    several = {f"{part}.tokens.<b>": torch.ones(1, 2) for part in ("text_encoder", "text_encoder_2", "text_encoder_3")}
    assert list(embedding("<b>", several, STABLE_DIFFUSION_3)) == ["clip_l", "clip_g", "t5xxl"]


def test_metadata_has_a_fixed_order(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}
    # safetensors orders metadata by a hash that is another in each process; here by hand, both ways round.
    parts = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}'
    header = '{"__metadata__":{%s},' + parts + "}"
    contents = set()
    for entries in ('"x":"1","format":"pt","é":"3"', '"é":"3","format":"pt","x":"1"'):
        path = tmp_path / "lora.safetensors"
        text = (header % entries).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + tensors["a"].numpy().tobytes() + tensors["b"].numpy().tobytes())
        sort_metadata(path)
        contents.add(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"format": "pt", "x": "1", "é": "3"}
            assert all(torch.equal(file.get_tensor(name), value) for name, value in tensors.items())
    assert len(contents) == 1
