"""Shifts of singular values: their formula, that they begin as the base and fold as they predict, and bases that have none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.config import MethodSection, parse_config
from components.core.errors import ConfigError, InputError
from components.core.paths import embedded_weights
from components.diffusion.models.bundle import load_bundle, load_weights
from components.diffusion.models.families import Family
from components.diffusion.models.sources import base_facts
from components.diffusion.planning.memory import Planner
from components.diffusion.planning.settings import settings_of
from components.diffusion.training.fit import check_fit
from components.diffusion.training.methods import method_for
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.spectral import SpectralShift
from components.diffusion.training.trainables import Trainables
from tests.components.diffusion.conftest import Folders, configure, train
from tests.tiny_bases import tiny_flux_folder, tiny_sd3_folder

RECIPE = method_for(MethodSection(name="svdiff")).recipe


def prediction(family: Family) -> torch.Tensor:
    noise = torch.randn((1, *family.latent_shape()), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return family.predict(noise, torch.tensor(500.0), family.encode_prompts(["a photo of sks style"]))


def still(trained: Trainables) -> None:
    for part in trained.parts.values():
        part.eval()


@torch.no_grad()
def moved(trained: Trainables) -> None:
    generator = torch.Generator().manual_seed(1)
    for value in trained.named().values():
        value.add_(0.1 * torch.randn(value.shape, generator=generator))


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3, 3), (7, 4), (6,)])
def test_the_formula(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    shift = SpectralShift(weight)
    left, values, right = np.linalg.svd(weight.double().numpy().reshape(shape[0] if len(shape) > 1 else 1, -1), full_matrices=False)
    # The smallest one is pushed below zero.
    delta = np.linspace(0.3, -values[-1] - 0.2, len(values)) if len(values) > 1 else np.array([0.3])
    with torch.no_grad():
        shift.delta.copy_(torch.from_numpy(delta))
    wanted = left @ np.diag(np.maximum(values + delta, 0.0)) @ right
    np.testing.assert_allclose(shift(weight).detach().numpy(), wanted.reshape(shape), rtol=0, atol=1e-6)
    # What no longer counts gets no gradient.
    shift(weight).sum().backward()
    assert shift.delta.grad is not None and (len(values) == 1 or shift.delta.grad[-1] == 0)


def test_the_public_formula_is_not_the_base_at_zero() -> None:
    """Why W is left out of the product: with it, nothing would be learnt yet and every weight would have moved."""
    weight = torch.randn((16, 16), generator=torch.Generator().manual_seed(0))
    shift = SpectralShift(weight)
    assert torch.equal(shift(weight), weight)
    assert not torch.equal(shift.left @ torch.diag(shift.values) @ shift.right, weight)


@pytest.mark.parametrize("name", ["tiny_base", "tiny_xl_base", "sd3", "flux"])
def test_it_begins_as_the_base_and_is_folded_as_it_predicts(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    make = {"sd3": tiny_sd3_folder, "flux": tiny_flux_folder}.get(name)
    base = make(tmp_path / "base") if make else request.getfixturevalue(name)
    family = load_bundle(base, device="cpu").family
    plain = prediction(family)
    trained = Trainables(family, RECIPE)
    still(trained)
    torch.testing.assert_close(prediction(family), plain, rtol=1e-4, atol=1e-5)
    moved(trained)
    tensors = {key: value.detach().clone() for key, value in trained.tensors().items()}
    shifted = prediction(family)
    assert (shifted - plain).abs().max() > 1e-3
    trained.fold()
    assert torch.equal(prediction(family), shifted)
    again = load_bundle(base, device="cpu").family
    loaded = Trainables(again, RECIPE, seed=None)
    loaded.load(tensors, "x")
    loaded.fold()
    assert torch.equal(prediction(again), shifted)
    assert not any("parametrizations" in key for part in again.parts.values() for key in part.state_dict())


def test_what_trains_and_at_what_rate(tiny_base: Path) -> None:
    trained = Trainables(load_bundle(tiny_base).family, RECIPE)
    layers = {name.removesuffix(".spectral") for name in trained.named()}
    assert {"unet.conv_in", "unet.down_blocks.0.resnets.0.norm1", "unet.time_embedding.linear_1"} <= layers
    assert {"text_encoder.embeddings.token_embedding", "text_encoder.final_layer_norm"} <= layers
    rates = {group["lr"]: len(group["params"]) for group in trained.groups({"denoiser": 1.0, "text_encoder": 10.0})}
    assert sorted(rates) == pytest.approx([1e-3, 1e-2, 1.0, 10.0])
    norms = next(group for group in trained.groups({"denoiser": 1.0, "text_encoder": 10.0}) if group["lr"] < 2e-3)["params"]
    # The published code counts a vector as one row: it has one singular value.
    assert {tuple(value.shape) for value in norms} == {(1,)}


def test_a_delta_is_a_twentieth_of_the_model_at_most() -> None:
    base = embedded_weights("base")
    trained = Trainables(load_weights(base).family, RECIPE)
    saved = sum(value.numel() for value in trained.tensors().values())
    whole = sum(value.numel() for part in load_weights(base).family.parts.values() for value in part.parameters())
    assert saved <= 0.05 * whole


def test_a_base_with_nan_is_refused_and_nothing_is_written(copy: Path, folders: Folders) -> None:
    file = next((copy / "unet").glob("*.safetensors"))
    tensors = load_file(file)
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight"
    tensors[name][0, 0] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"unet\.{name}: has no singular values: it holds NaN or infinity") as caught:
        train(configure(copy, method={"name": "svdiff"}), folders)
    assert caught.value.exit_code == 2
    assert not (folders.out.parent / "model").exists() and not list(folders.out.parent.glob("ck-*/*"))


def test_rate_factors_are_by_name() -> None:
    def factors(**section: Any) -> dict[str, float]:
        return dict(method_for(MethodSection(**section)).recipe.rates)

    assert factors(name="svdiff", train_text_encoder=False) == {"denoiser.spectral.norms": 1e-3}
    changed = {"denoiser": {"spectral": {"norms": 1.0}}, "text_encoder.spectral": 0.5}
    assert factors(name="svdiff", rate_factors=changed) == {"text_encoder.spectral": 0.5, "text_encoder.spectral.norms": 1e-3}
    recipe = method_for(MethodSection(name="custom-diffusion", rate_factors={"tokens": 20})).recipe
    assert Recipe.from_json(recipe.as_json()) == recipe and recipe.as_json()["rates"] == {"tokens": 20.0}
    assert "rates" not in method_for(MethodSection(name="custom-diffusion")).recipe.as_json()
    with pytest.raises(
        ConfigError, match=r"method\.rate_factors\.token: custom-diffusion trains no such .*did you mean tokens\?"
    ) as caught:
        factors(name="custom-diffusion", rate_factors={"token": 2})
    assert caught.value.exit_code == 2
    assert parse_config({"style": {"name": "x", "source": "y"}, "method": {"rate_factors": {"denoiser": 2}}}).method.rate_factors


def test_prodigy_finds_one_rate_for_all(tiny_base: Path) -> None:
    config = configure(tiny_base, method={"name": "svdiff"}, training={"optimizer": "prodigy", "learning_rate": 1.0})
    with pytest.raises(ConfigError, match=r"training\.optimizer=prodigy: .*single rate"):
        check_fit(config, method_for(config.method), base_facts(str(tiny_base)))


def test_its_memory_can_be_planned(tiny_base: Path) -> None:
    plan = Planner(tiny_base).plan(settings_of(configure(tiny_base, method={"name": "svdiff"}, base={"precision": {"denoiser": "int8"}})))
    assert next(step for step in plan.steps if step.name == "train").total > 0
