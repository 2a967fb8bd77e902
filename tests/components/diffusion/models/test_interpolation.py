"""Weights between the base and the model: by the formula, for every way of saving, and in the files of other programs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from components.core.config import MethodSection
from components.core.errors import ConfigError
from components.diffusion.export.formats import KOHYA_FILE, LORA_FILE
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.interpolation import weights_of
from components.diffusion.training.methods import method_for
from components.diffusion.training.recipe import Recipe
from tests.components.diffusion.conftest import Trained, predict, predict_with

TABLE = "text_encoder.embeddings.token_embedding.weight"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("single-styleforge", {"save": "full"}), ("single-styleforge", {"save": "delta"}), ("svdiff", {}), ("custom-diffusion", {}),
    ("lora", {"lora": {"dora": True}}), ("lora", {"lora": {"kind": "oft"}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), [*CASES[::2], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1::2])])
def test_weights_are_between_the_base_and_the_model(trained: Trained, tiny_base: Path, name: str, method: dict[str, Any]) -> None:
    base, whole, half = (
        weights_of(load_bundle(folder, device="cpu").family)
        for folder in (tiny_base, trained(name, **method), trained(name, **method, strength=0.25))
    )
    assert whole.keys() == half.keys()
    moved = 0
    for key, value in whole.items():
        origin = base[key].double()
        own = value.double()[: len(origin)]
        torch.testing.assert_close(half[key].double()[: len(origin)], origin + 0.25 * (own - origin), rtol=0, atol=1e-6)
        moved += int(not torch.equal(own, origin))
        # A new token is what it is.
        assert torch.equal(half[key][len(origin) :], value[len(origin) :])
    assert moved
    assert (len(whole[TABLE]) > len(base[TABLE])) == (name == "custom-diffusion")


@pytest.mark.parametrize(
    "lora", [{"init": "pissa"}, pytest.param({}, marks=pytest.mark.slow), pytest.param({"kind": "lokr"}, marks=pytest.mark.slow)]
)
def test_a_lora_file_has_the_strength(trained: Trained, tiny_base: Path, lora: dict[str, Any]) -> None:
    out = trained("lora", lora={"rank": 2, "alpha": 6, **lora}, strength=0.5)
    pipeline = DiffusionPipeline.from_pretrained(tiny_base)
    pipeline.unet.load_lora_adapter(out, prefix="unet", weight_name=LORA_FILE)
    torch.testing.assert_close(predict_with(pipeline, "a man"), predict(out, "a man"), rtol=0, atol=1e-4)
    whole = predict(trained("lora", lora={"rank": 2, "alpha": 6, **lora}), "a man")
    assert (predict(out, "a man") - whole).abs().max() > 1e-3


def test_what_no_factor_scales_has_no_file(trained: Trained) -> None:
    out = trained("lora", lora={"dora": True}, strength=0.25)
    assert not (out / LORA_FILE).exists() and not (out / KOHYA_FILE).exists()


def test_a_recipe_names_it_where_it_is_not_1() -> None:
    recipe = method_for(MethodSection(name="lora", strength=0.5)).recipe
    assert Recipe.from_json(recipe.as_json()) == recipe and recipe.strength == 0.5
    assert "strength" not in method_for(MethodSection(name="lora")).recipe.as_json()
    with pytest.raises(ConfigError, match=r"method\.strength: textual-inversion learns only tokens") as caught:
        method_for(MethodSection(name="textual-inversion", strength=0.5))
    assert caught.value.exit_code == 2
