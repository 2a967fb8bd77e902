"""Negative tokens: their rows beside those of the token, where they begin, how they train, and the files for other programs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.core.config import MethodSection
from components.core.content import derive_seed
from components.core.errors import ConfigError
from components.diffusion.export.portable import open_model, write_format
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.deltas import DELTA_FILE
from components.diffusion.training.methods import method_for
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.trainables import Trainables
from tests.components.diffusion.conftest import Trained

SECTION = MethodSection(
    name="textual-inversion", loss="guided", vectors=3, negative_vectors=4, initial_word="style", rate_factors={"tokens.negative": 0.5}
)  # fmt: skip


def test_a_concept_and_its_recipe_name_the_token() -> None:
    method = method_for(SECTION)
    assert method.concepts[0].negative == "<sks-neg>" and method.concepts[0].as_json()["negative"] == "<sks-neg>"
    assert method.recipe.new_tokens == {"<sks>": 3, "<sks-neg>": 4}
    assert Recipe.from_json(method.recipe.as_json()) == method.recipe
    without = method_for(MethodSection(name="textual-inversion"))
    assert "negative" not in without.concepts[0].as_json() and "negatives" not in without.recipe.as_json()
    for section, message in (
        ({"name": "lora", "loss": "guided"}, "lora learns no embedding rows"),
        ({"name": "textual-inversion"}, "the loss denoising does not train a negative token"),
    ):
        with pytest.raises(ConfigError, match=rf"method\.negative_vectors: {message}") as caught:
            method_for(MethodSection(**section, negative_vectors=2))  # type: ignore[arg-type]
        assert caught.value.exit_code == 2


def test_rows_begin_near_the_word_and_have_a_rate_of_their_own(tiny_base: Path) -> None:
    family = load_bundle(tiny_base).family
    tokenizer = family.tokenizers["text_encoder"]
    table = family.text_encoders["text_encoder"].get_input_embeddings().weight.detach().clone()
    word = table[tokenizer("style", add_special_tokens=False).input_ids[0]]
    trained = Trainables(family, method_for(SECTION).recipe, seed=5)
    rows = trained.named()
    generator = torch.Generator().manual_seed(derive_seed(5, "negative rows", "text_encoder", "<sks-neg>"))
    wanted = word + 1e-3 * torch.randn((4, len(word)), generator=generator)
    torch.testing.assert_close(rows["text_encoder.tokens.<sks-neg>"].detach(), wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(rows["text_encoder.tokens.<sks>"].detach(), word.expand(3, -1), rtol=0, atol=0)
    assert [group["lr"] for group in trained.groups({"tokens": 1.0})] == [1.0, 0.5]
    # A prompt with one token reaches the rows of that alone.
    for prompt, other in (("a <sks> style", "<sks-neg>"), ("a <sks-neg> style", "<sks>")):
        family.encode_prompts([prompt]).states.square().mean().backward()
        gradients = {name.rpartition(".")[2]: value.grad for name, value in rows.items()}
        assert all(bool(value.any()) == (token != other) for token, value in gradients.items() if value is not None)
        for value in rows.values():
            value.grad = None
    ids = family.tokenize(["a <sks-neg> style"])["text_encoder"][0].tolist()
    first = tokenizer.convert_tokens_to_ids("<sks-neg>")
    assert ids[2:6] == list(range(first, first + 4)) and first == tokenizer.convert_tokens_to_ids("<sks>") + 3


def test_a_model_holds_both_and_other_programs_load_them(trained: Trained, tmp_path: Path) -> None:
    options = {"loss": "guided", "vectors": 3, "negative_vectors": 4, "initial_word": "style"}
    delta, full = (trained("textual-inversion", save=save, **options) for save in ("delta", "full"))
    tensors = load_file(delta / DELTA_FILE)
    assert {name: len(value) for name, value in tensors.items()} == {
        "text_encoder.tokens.<sks>": 3, "text_encoder.tokens.<sks-neg>": 4,
    }  # fmt: skip
    left, right = (load_bundle(folder).family for folder in (delta, full))
    prompts = ["a <sks> style", "a <sks-neg> style", "a style"]
    assert torch.equal(left.encode_prompts(prompts).states, right.encode_prompts(prompts).states)
    written = write_format(open_model(delta), "a1111-embedding", "x", tmp_path)
    assert {token: name for token, (name, _) in written.embeddings.items()} == {
        "<sks>": "sks.safetensors", "<sks-neg>": "sks-neg.safetensors",
    }  # fmt: skip
    # The one key that AUTOMATIC1111 and ComfyUI read, of a base with one text encoder.
    for name in ("sks", "sks-neg"):
        saved = load_file(tmp_path / f"{name}.safetensors")
        assert torch.equal(saved["emb_params"], tensors[f"text_encoder.tokens.<{name}>"])


def test_two_text_encoders_have_a_key_each(trained: Trained, tiny_xl_base: Path) -> None:
    saved = load_file(trained("textual-inversion", base=tiny_xl_base, loss="guided", negative_vectors=2) / "sks-neg.safetensors")
    assert {name: len(value) for name, value in saved.items()} == {"clip_l": 2, "clip_g": 2}
