"""Every kind of low-rank adapter: that it trains, resumes, folds, and comes back from a delta and in other programs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from components.core.config import LoraSection, MethodSection
from components.core.errors import ConfigError
from components.diffusion.export.formats import KOHYA_FILE, LORA_FILE
from components.diffusion.models.bundle import load_bundle
from components.diffusion.models.deltas import DELTA_FILE
from components.diffusion.models.families import Family
from components.diffusion.training.methods import method_for
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.trainables import Trainables
from tests.components.diffusion.conftest import Folders, Trained, configure, cut_power, predict, predict_with, train
from tests.tiny_bases import tiny_flux_folder, tiny_sd3_folder

PROMPT = "a photo of sks style"
KINDS: dict[str, dict[str, Any]] = {
    "lora": {}, "dora": {"dora": True}, "pissa": {"init": "pissa"}, "lokr": {"kind": "lokr"}, "loha": {"kind": "loha"}, 
    "oft": {"kind": "oft"},
}  # fmt: skip
BOTH = frozenset({"denoiser.low-rank", "text_encoder.low-rank"})
# The UNet's convolutions too, where a kind takes them.
CONVOLUTIONS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv_shortcut")


def recipe_of(kind: str, **lora: Any) -> Recipe:
    alpha = {} if kind == "oft" else {"alpha": 6}
    return Recipe(BOTH, lora=LoraSection(**{"rank": 2, **alpha, **KINDS[kind], **lora}))


def prediction(family: Family) -> torch.Tensor:
    noise = torch.randn((1, *family.latent_shape()), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return family.predict(noise, torch.tensor(500.0), family.encode_prompts([PROMPT]))


@torch.no_grad()
def moved(trained: Trainables) -> None:
    generator = torch.Generator().manual_seed(1)
    for value in trained.named().values():
        value.add_(0.1 * torch.randn(value.shape, generator=generator))


def weights(family: Family) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": value for part, module in family.parts.items() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_begins_as_the_base_and_is_folded_as_it_predicts(tiny_base: Path, kind: str) -> None:
    family = load_bundle(tiny_base, device="cpu").family
    base = prediction(family)
    recipe = recipe_of(kind, **({} if kind == "oft" else {"targets": CONVOLUTIONS}))
    trained = Trainables(family, recipe, seed=1)
    torch.testing.assert_close(prediction(family), base, rtol=0, atol=1e-5)
    moved(trained)
    for part in family.parts.values():
        part.eval()
    tensors = {name: value.detach().clone() for name, value in trained.tensors().items()}
    adapted = prediction(family)
    assert (adapted - base).abs().max() > 1e-2
    trained.fold()
    torch.testing.assert_close(prediction(family), adapted, rtol=0, atol=1e-5)
    again = load_bundle(tiny_base, device="cpu").family
    # What is loaded draws nothing at random, or by the way.
    state = torch.get_rng_state()
    loaded = Trainables(again, recipe, seed=None)
    loaded.load(tensors, "x")
    loaded.fold()
    assert torch.equal(torch.get_rng_state(), state)
    folded = weights(family)
    assert all(torch.equal(value, folded[name]) for name, value in weights(again).items())


@pytest.mark.parametrize(
    "kind",
    [pytest.param(name, marks=() if name == "pissa" else pytest.mark.slow) for name in KINDS if name not in ("lora", "dora")],
)
def test_a_kind_resumes_bit_for_bit_and_is_saved_small(tiny_base: Path, folders: Folders, kind: str) -> None:
    method = {"name": "lora", "save": "delta", "train_text_encoder": True, "lora": {"rank": 2, **KINDS[kind]}}
    config = configure(tiny_base, method=method, training={"steps": 4, "ema_decay": 0.9, "gradient_checkpointing": True})
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", step=2)
    parts = train(config, folders, "parts")
    assert json.loads((parts / "training" / "timing.json").read_text())["resumed_from"] == 2
    assert (whole / DELTA_FILE).read_bytes() == (parts / DELTA_FILE).read_bytes()
    network = sum(file.stat().st_size for file in (tiny_base / "unet").glob("*.safetensors"))
    assert (whole / DELTA_FILE).stat().st_size < network / 2


def test_pissa_moves_the_first_singular_vectors_into_the_adapter(tiny_base: Path) -> None:
    family = load_bundle(tiny_base, device="cpu").family
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
    before = family.denoiser.get_submodule(layer).weight.detach().clone()
    trained = Trainables(family, recipe_of("pissa"), seed=1)
    left, values, right = torch.linalg.svd(before)
    first = left[:, :2] * values[:2] @ right[:2]
    named = trained.tensors()
    a, b = named[f"unet.{layer}.lora_A.weight"], named[f"unet.{layer}.lora_B.weight"]
    torch.testing.assert_close(3 * b @ a, first, rtol=1e-4, atol=1e-5)
    assert torch.equal(a, named[f"unet.{layer}.pissa_A"]) and torch.equal(b, named[f"unet.{layer}.pissa_B"])
    torch.testing.assert_close(family.denoiser.get_submodule(layer).get_base_layer().weight, before - first, rtol=1e-4, atol=1e-5)
    # Another machine finds other vectors: what was saved counts, and the matrix is parted anew.
    other = {name: torch.flip(value, (int("_B" in name),)) * 1.1 for name, value in named.items()}
    trained.load({name: value.detach().clone() for name, value in other.items()}, "x")
    trained.fold()
    torch.testing.assert_close(family.denoiser.get_submodule(layer).weight, before, rtol=1e-4, atol=1e-5)


def test_blocks_and_their_metadata(tiny_base: Path, trained: Trained) -> None:
    out = trained("lora", lora={"rank": 2, "blocks": ["up_blocks.*", "mid_block.attentions.0"]})
    names = list(load_file(out / DELTA_FILE))
    assert {name.split(".")[1] for name in names} == {"up_blocks", "mid_block"}
    with safe_open(out / LORA_FILE, framework="pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    assert metadata["unet.target_modules"] == sorted({name.partition(".")[2].rpartition(".lora_")[0] for name in names})
    pipeline = DiffusionPipeline.from_pretrained(tiny_base)
    pipeline.load_lora_weights(out)
    torch.testing.assert_close(predict_with(pipeline, PROMPT), predict(out, PROMPT), rtol=0, atol=1e-4)


def test_the_halves_of_b_lora(tiny_xl_base: Path) -> None:
    # Frenkel et al., 2024: of SDXL's first level upwards the first attention is for content, the second for style.
    family = load_bundle(tiny_xl_base, device="cpu").family
    lora = LoraSection(blocks=("up_blocks.0.attentions.1",))
    names = Trainables(family, Recipe(frozenset({"denoiser.low-rank"}), lora=lora)).named()
    assert names and all(name.startswith("unet.up_blocks.0.attentions.1.") for name in names)


def test_the_style_half_of_a_b_lora_draws_by_itself(tiny_xl_base: Path, folders: Folders) -> None:
    """As docs/how-to/adapters.md has it: both halves train together, and diffusers takes one."""
    lora = {"rank": 2, "blocks": ["up_blocks.0.attentions.0", "up_blocks.0.attentions.1"]}
    out = train(configure(tiny_xl_base, method={"name": "lora", "lora": lora}, training={"steps": 2, "learning_rate": 0.05}), folders)
    tensors = load_file(out / LORA_FILE)
    halves = {half: {name: value for name, value in tensors.items() if f".attentions.{half}." in name} for half in (0, 1)}
    assert halves[0] and halves[1] and len(tensors) == len(halves[0]) + len(halves[1])
    pipeline = DiffusionPipeline.from_pretrained(tiny_xl_base)
    pipeline.load_lora_weights(halves[1])
    active = [name for name, value in pipeline.unet.named_parameters() if "lora_B" in name and value.any()]
    assert active and all(name.startswith("up_blocks.0.attentions.1.") for name in active)


# LoRA through the pipeline; LoKr through the denoiser, for of these families' pipelines none takes it.
@pytest.mark.parametrize("kind", ["lora", "pissa", "lokr"])
@pytest.mark.parametrize("name", ["tiny_xl_base", "sd3", "flux"])
def test_diffusers_draws_the_same(tmp_path: Path, request: pytest.FixtureRequest, folders: Folders, name: str, kind: str) -> None:
    make = {"sd3": tiny_sd3_folder, "flux": tiny_flux_folder}.get(name)
    base: Path = make(tmp_path / "base") if make else request.getfixturevalue(name)
    method = {"name": "lora", "train_text_encoder": kind != "lokr", "lora": {"rank": 2, "alpha": 6, **KINDS[kind]}}
    out = train(configure(base, method=method, training={"steps": 2, "learning_rate": 0.05}), folders)
    family = load_bundle(base, device="cpu").family
    plain = prediction(family)
    pipeline = DiffusionPipeline.from_pretrained(base)
    if kind == "lokr":
        denoiser = getattr(pipeline, family.layout.denoiser)
        denoiser.load_lora_adapter(out, prefix=family.layout.denoiser, weight_name=LORA_FILE)
    else:
        pipeline.load_lora_weights(out)
    for part in family.parts:
        family.parts[part] = getattr(pipeline, part).eval()
    family.text_encoders.update({part: family.parts[part] for part in family.text_encoders})
    wanted = prediction(load_bundle(out, device="cpu").family)
    assert (wanted - plain).abs().max() > 1e-3
    torch.testing.assert_close(prediction(family), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["lokr", "loha"])
def test_lycoris_files_by_their_formula(tiny_base: Path, trained: Trained, kind: str) -> None:
    out = trained("lora", train_text_encoder=True, lora={"rank": 2, "alpha": 6, **KINDS[kind], "targets": list(CONVOLUTIONS)})
    held = load_file(out / KOHYA_FILE)
    base, tuned = (weights(load_bundle(folder, device="cpu").family) for folder in (tiny_base, out))
    layers = {name.partition(".")[0] for name in held}
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}
    for name, value in tuned.items():
        part, _, rest = name.partition(".")
        layer = f"{prefixes.get(part, '')}{rest.removesuffix('.weight').replace('.', '_')}"
        if layer not in layers:
            assert torch.equal(value, base[name])
            continue
        layers.discard(layer)
        # As ComfyUI reads them: the scale is alpha by the rank of what is a product, and 1 for a LoKr of whole matrices.
        own = {key.removeprefix(f"{layer}."): each for key, each in held.items() if key.startswith(f"{layer}.")}
        if kind == "lokr":
            second = own["lokr_w2"] if "lokr_w2" in own else own["lokr_w2_a"] @ own["lokr_w2_b"]
            first = own["lokr_w1"] if second.dim() == 2 else own["lokr_w1"][..., None, None]
            update = torch.kron(first, second)
        else:
            update = (own["hada_w1_a"] @ own["hada_w1_b"]) * (own["hada_w2_a"] @ own["hada_w2_b"]) * own["alpha"] / 2
        assert own["alpha"] == 2
        torch.testing.assert_close(base[name] + update.reshape(value.shape), value, rtol=0, atol=1e-5)
    assert not layers


def test_files_of_transformers_hold_the_scale(tmp_path: Path, folders: Folders) -> None:
    """ComfyUI reads diffusers' names of SD3 and FLUX, but not the metadata."""
    base = tiny_sd3_folder(tmp_path / "base", t5=False)
    for kind in ("lora", "loha"):
        lora = {"rank": 2, "alpha": 6, **KINDS[kind]}
        out = train(configure(base, method={"name": "lora", "lora": lora}, training={"steps": 2, "learning_rate": 0.05}), folders, kind)
        held = load_file(out / LORA_FILE)
        layer = "transformer_blocks.0.attn.to_q"
        own = {name.removeprefix(f"transformer.{layer}."): value for name, value in held.items() if f".{layer}." in name}
        if kind == "lora":
            update = own["lora_B.weight"] @ own["lora_A.weight"]
        else:
            update = (own["hada_w1_a"] @ own["hada_w1_b"]) * (own["hada_w2_a"] @ own["hada_w2_b"])
        old, new = (load_bundle(folder, device="cpu").family.denoiser.get_submodule(layer).weight for folder in (base, out))
        torch.testing.assert_close(new - old, update, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("lora", "wanted"),
    [
        ({"kind": "lokr", "dora": True}, r"method\.lora\.kind=lokr: has no separate magnitudes \(dora\); expected kind lora"),
        ({"kind": "loha", "init": "pissa"}, r"method\.lora\.init=pissa: initializes only plain LoRA"),
        ({"dora": True, "init": "pissa"}, r"method\.lora\.init=pissa: initializes only plain LoRA"),
        ({"kind": "oft", "alpha": 4}, r"method\.lora\.alpha: a rotation has no scale"),
        ({"kind": "oft", "rank": 1}, r"method\.lora\.rank=1: one number cannot be rotated"),
    ],
)
def test_settings_that_a_kind_does_not_have(lora: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        method_for(MethodSection(name="lora", lora=LoraSection(**lora)))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("lora", "wanted"),
    [
        ({"targets": ("to_q", "to_w")}, r"method\.lora\.targets: the unet has no such layers \(to_w\) \(did you mean to_[kqv]\?\)"),
        ({"targets": ("attn2",)}, r"method\.lora\.targets: the unet has no such layers \(attn2\)"),
        ({"blocks": ("up_blocks", "up_block.0")}, r"method\.lora\.blocks=up_block\.0: .*no layer .* \(did you mean up_blocks\.0\?\)"),
        ({"kind": "oft", "rank": 3}, r"method\.lora\.rank=3: does not divide the 16 inputs of unet\..*expected one of 2, 4, 8, 16"),
        ({"kind": "oft", "targets": ("conv1",)}, r"method\.lora\.kind=oft: unet\..*conv1 is a convolution over several pixels"),
        ({"init": "pissa", "rank": 17}, r"method\.lora\.rank=17: unet\..* of 16 × 16 has fewer singular vectors; expected at most 16"),
    ],
)
def test_what_the_layers_of_a_base_cannot_take(tiny_base: Path, lora: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        Trainables(load_bundle(tiny_base, device="cpu").family, Recipe(frozenset({"denoiser.low-rank"}), lora=LoraSection(**lora)))
    assert caught.value.exit_code == 2


def test_earlier_recipes_keep_their_form() -> None:
    """Digests of deltas and of checkpoints are of it."""
    wanted = {"rank": 8, "alpha": None, "targets": None, "text_encoder_targets": None, "dora": False}
    assert Recipe(BOTH, lora=LoraSection(rank=8)).as_json()["lora"] == wanted
    recipe = Recipe(BOTH, lora=LoraSection(kind="lokr", rank=4, blocks=("up_blocks",)))
    assert recipe.as_json()["lora"] == {**wanted, "rank": 4, "kind": "lokr", "blocks": ["up_blocks"]}
    assert Recipe.from_json(json.loads(json.dumps(recipe.as_json()))) == recipe
