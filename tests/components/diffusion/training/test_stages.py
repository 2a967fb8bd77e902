"""Embedding rows for each stage of noise: which rows a time takes, in training and in drawing, and the saved form."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.core.config import MethodSection
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.deltas import DELTA_FILE
from components.diffusion.models.tokens import expand
from components.diffusion.training.caches import PromptCache
from components.diffusion.training.methods import method_for
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.trainables import Trainables
from tests.components.diffusion.conftest import Folders, Trained, configure, cut_power, train
from tests.tiny_bases import tiny_sd3_folder

STAGED: dict[str, Any] = {"stages": 6, "initial_word": "style"}


def test_a_recipe_names_the_rows_of_each_stage() -> None:
    recipe = method_for(MethodSection(name="textual-inversion", vectors=2, **STAGED)).recipe
    assert recipe.new_tokens == {f"<sks-T{stage}>": 2 for stage in range(6)}
    assert Recipe.from_json(recipe.as_json()) == recipe
    assert "stages" not in method_for(MethodSection(name="textual-inversion")).recipe.as_json()
    # Whole networks learn a token then, beside themselves.
    method = method_for(MethodSection(name="multi-styleforge", stages=2))
    assert method.tokens == ("<sks>", "<ukj>") and method.trains == {"denoiser", "text_encoder", "tokens"}
    assert method.concepts[1].prompt == "a photo of <ukj> style"


@pytest.mark.parametrize("flow", [False, True])
def test_a_time_takes_the_rows_of_its_stage(tiny_base: Path, tmp_path: Path, flow: bool) -> None:
    family = load_bundle(tiny_sd3_folder(tmp_path / "base", t5=False) if flow else tiny_base, device="cpu").family
    Trainables(family, Recipe(frozenset({"tokens"}), ("<sks>",), initial_word="style", stages=6))
    # DreamStyler's ⌊6 t / 1000⌋; a flow's time is 1000 σ.
    times = (
        [0.5, 166.0, 167.0, 333.0, 334.0, 500.0, 667.0, 833.0, 834.0, 999.0] if flow else [0, 166, 167, 333, 334, 500, 667, 833, 834, 999]
    )
    wanted = [0, 0, 1, 1, 2, 3, 4, 4, 5, 5]
    written = family.at_times(["a <sks> style"] * 10, torch.tensor(times))
    assert written == [f"a <sks-T{stage}> style" for stage in wanted]
    # A sampler's time is one for all, and may be 1000.
    assert family.at_times(["<SKS>", "x"], torch.tensor(1000.0)) == ["<sks-T5>", "x"]
    assert family.at_all_stages(["a <sks>", "x"]) == [*(f"a <sks-T{stage}>" for stage in range(6)), "x"]


def test_prompts_of_one_batch_take_rows_by_their_times(tiny_base: Path) -> None:
    family = load_bundle(tiny_base, device="cpu").family
    trained = Trainables(family, Recipe(frozenset({"tokens"}), ("<sks>",), vectors=2, initial_word="style", stages=3))
    rows = trained.named()
    with torch.no_grad():
        for stage, value in enumerate(rows.values()):
            value.add_(stage)
    cache = PromptCache(family, torch.device("cpu"), keep_states=False)
    states = cache.encode(["a <sks> style"] * 3, family.text_encoders, torch.tensor([999, 0, 500])).states
    ids = family.tokenize(["a sks sks style"] * 3)["text_encoder"].clone()
    first = family.tokenizers["text_encoder"].convert_tokens_to_ids("<sks-T0>")
    ids[:, 2:4] = torch.tensor([[first + 2 * stage, first + 2 * stage + 1] for stage in (2, 0, 1)])
    by_hand = family.encode_tokens({"text_encoder": ids}).states
    torch.testing.assert_close(states, by_hand, rtol=0, atol=1e-6)
    # Each sample moves the rows of its own stage alone.
    states[0].sum().backward()
    assert [bool(value.grad is not None and value.grad.any()) for value in rows.values()] == [False, False, True]
    # Where no time is known, such as for the length of a prompt, the first stage stands for all.
    assert expand(["a <sks> style"], family.tokenizers["text_encoder"]) == ["a <sks-T0> <sks-T0>_1 style"]
    assert family.prompt_lengths(["a <sks> style"]) == family.prompt_lengths(["a <sks-T2> style"]) == [6]


def test_a_delta_is_the_full_model_and_has_a_file_for_each_stage(trained: Trained, folders: Folders) -> None:
    delta, full = (trained("textual-inversion", save=save, **STAGED) for save in ("delta", "full"))
    assert set(load_file(delta / DELTA_FILE)) == {f"text_encoder.tokens.<sks-T{stage}>" for stage in range(6)}
    assert {file.name for file in delta.glob("sks-T*.safetensors")} == {f"sks-T{stage}.safetensors" for stage in range(6)}
    left, right = (load_bundle(folder, device="cpu").family for folder in (delta, full))
    assert left.stages == right.stages == {"<sks>": 6}
    prompts = left.at_all_stages(["a <sks> style"])
    states = left.encode_prompts(prompts).states
    assert torch.equal(states, right.encode_prompts(prompts).states)


def test_whole_networks_with_a_token_by_stage_resume_bit_for_bit(tiny_base: Path, folders: Folders) -> None:
    method = {"name": "single-styleforge", "save": "delta", **STAGED, "stages": 2}
    config = configure(tiny_base, method=method, training={"steps": 4})
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", step=2)
    assert (whole / DELTA_FILE).read_bytes() == (train(config, folders, "parts") / DELTA_FILE).read_bytes()
    assert {name for name in load_file(whole / DELTA_FILE) if "tokens" in name} == {
        f"text_encoder.tokens.<sks-T{stage}>" for stage in (0, 1)
    }
