import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.core.config import LoraSection
from components.core.errors import ConfigError, InputError
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.deltas import DELTA_FILE
from components.diffusion.models.tokens import OffsetEmbedding, RowEmbedding, expand
from components.diffusion.training.recipe import Recipe
from components.diffusion.training.trainables import Trainables
from tests.components.diffusion.conftest import Folders, Trained, configure, cut_power, edit, train

EMBEDDING = "embeddings.token_embedding.weight"
FAST = {"steps": 2, "learning_rate": 1e-2}


def state(bundle: Bundle) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": value for part, module in bundle.family.parts.items() for name, value in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in after.items() if name not in before or not torch.equal(value, before[name])}


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


METHODS: dict[str, dict[str, Any]] = {
    "dreambooth": {}, "single-styleforge": {"train_text_encoder": False}, "textual-inversion": {"vectors": 2}, "lora": {},
    "custom-diffusion": {}, "single-styleforge-apart": {"name": "single-styleforge", "identifier_rows": True},
    "pissa": {"name": "lora", "lora": {"init": "pissa"}}, "svdiff": {},
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_delta_on_its_base_is_the_full_model_bit_for_bit(trained: Trained, tiny_base: Path, name: str) -> None:
    full, delta = (trained(**{"name": name, **METHODS[name], "save": save}) for save in ("full", "delta"))
    assert (full / "model_index.json").is_file() and not (full / DELTA_FILE).exists()
    assert not (delta / "model_index.json").exists()
    left, right = state(load_bundle(full)), state(load_bundle(delta))
    assert left.keys() == right.keys()
    assert changed(left, right) == set()
    assert changed(state(load_bundle(tiny_base)), right)
    assert size(delta) < size(full)
    if not name.startswith("single-styleforge"):
        assert load_bundle(delta).digest not in (load_bundle(full).digest, load_bundle(tiny_base).digest)


def test_each_method_moves_its_own_parameters_and_nothing_else(trained: Trained, tiny_base: Path) -> None:
    before = state(load_bundle(tiny_base))

    def moved(name: str, **options: Any) -> set[str]:
        return changed(before, state(load_bundle(trained(name, save="delta", **options))))

    row = {f"text_encoder.{EMBEDDING}"}
    assert moved("textual-inversion", vectors=2) == row
    custom = moved("custom-diffusion")
    assert row < custom
    assert all(name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for name in custom - row)
    assert len(custom - row) == len([name for name in before if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))])
    lora = moved("lora")
    assert lora and all(name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")) for name in lora)
    both = moved("lora", train_text_encoder=True)
    assert any(name.startswith("text_encoder.") for name in both) and lora <= both


def test_textual_inversion_leaves_every_other_row_bit_equal(folders: Folders, tiny_base: Path) -> None:
    # Fault 4: the public script trains the whole table with weight decay and masks the rest.
    out = train(
        configure(
            tiny_base, method={"name": "textual-inversion", "vectors": 3, "initial_word": "style"}, training={**FAST, "weight_decay": 0.5}
        ),
        folders,
    )
    base, model = load_bundle(tiny_base), load_bundle(out)
    old, new = state(base)[f"text_encoder.{EMBEDDING}"], state(model)[f"text_encoder.{EMBEDDING}"]
    assert len(new) == len(old) + 3
    assert torch.equal(new[: len(old)], old)
    word = old[base.family.tokenizers["text_encoder"]("style", add_special_tokens=False).input_ids[0]]
    assert not any(torch.equal(row, word) for row in new[len(old) :])


def test_several_vectors_are_written_into_prompts(trained: Trained) -> None:
    family = load_bundle(trained("textual-inversion", vectors=2, save="full")).family
    assert expand(["a <sks> style", "a style"], family.tokenizers["text_encoder"]) == ["a <sks> <sks>_1 style", "a style"]
    first = family.tokenizers["text_encoder"].convert_tokens_to_ids("<sks>")
    assert family.tokenize(["a <sks> style"])["text_encoder"][0, 2:4].tolist() == [first, first + 1]
    assert family.prompt_lengths(["a <sks> style"]) == [6]


def test_new_rows_by_hand() -> None:
    table = torch.nn.Embedding(3, 2).requires_grad_(False)
    embedding = RowEmbedding(table, 3, [torch.ones(1, 2), torch.full((2, 2), 2.0)])
    ids = torch.tensor([[0, 3, 5], [2, 4, 1]])
    wanted = torch.cat([table.weight, torch.ones(1, 2), torch.full((2, 2), 2.0)])[ids]
    assert torch.equal(embedding(ids), wanted)
    assert torch.equal(embedding.plain()(ids), wanted)
    # A batch without the token (dropped captions) must still have something to go back to.
    embedding(torch.tensor([[0, 1]])).sum().backward()
    assert all(torch.equal(row.grad, torch.zeros_like(row)) for row in embedding.rows)
    assert table.weight.grad is None


def test_offsets_by_hand() -> None:
    table = torch.nn.Embedding(4, 2)
    embedding = OffsetEmbedding(table, [[3], [1, 2]])
    ids = torch.tensor([[0, 3, 1], [2, 2, 0]])
    assert torch.equal(embedding(ids), table.weight[ids])
    with torch.no_grad():
        embedding.offsets[0].copy_(torch.tensor([[1.0, 2.0]]))
        embedding.offsets[1].copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    wanted = table.weight.detach() + torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [1.0, 2.0]])
    assert torch.equal(embedding(ids), wanted[ids])
    # The gradient of an offset is the sum over the places where its word stands; without any it is zero, and there.
    embedding(ids).sum().backward()
    assert embedding.offsets[1].grad is not None and torch.equal(embedding.offsets[1].grad, torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    embedding.zero_grad()
    embedding(torch.tensor([[0]])).sum().backward()
    assert all(torch.equal(offset.grad, torch.zeros_like(offset)) for offset in embedding.offsets)
    before = table.weight.detach().clone()
    assert torch.equal(embedding.plain().weight, wanted) and torch.equal(table.weight, before)


def test_identifier_rows_have_a_rate_to_themselves(folders: Folders, tiny_base: Path) -> None:
    base = load_bundle(tiny_base)
    (sks,) = base.family.tokenizers["text_encoder"]("sks", add_special_tokens=False).input_ids
    before = state(base)[f"text_encoder.{EMBEDDING}"]

    def step_of(**method: Any) -> torch.Tensor:
        settings = {"steps": 1, "learning_rate": 1e-3, "token_learning_rate": 1e-1, "weight_decay": 0.0}
        out = train(configure(tiny_base, method={"name": "single-styleforge", **method}, training=settings), folders, f"m{len(method)}")
        return (state(load_bundle(out))[f"text_encoder.{EMBEDDING}"] - before).abs().amax(1)

    # Adam's first step is the learning rate in each coordinate that has a gradient (Kingma and Ba, 2015, section 2.1).
    plain, apart = step_of(), step_of(identifier_rows=True)
    others = torch.arange(len(before)) != sks
    assert plain[sks] == pytest.approx(1e-3, rel=1e-2) and apart[sks] == pytest.approx(1e-1 + 1e-3, rel=1e-2)
    assert apart[others].max() == pytest.approx(1e-3, rel=1e-2)


def test_an_old_style_end_is_not_mistaken_for_a_new_token(tiny_base: Path) -> None:
    # Old configurations say eos_token_id 2, and then the end of a prompt is its greatest id: a new token's.
    bundle = load_bundle(tiny_base)
    encoder = bundle.family.text_encoders["text_encoder"]
    encoder.config.eos_token_id = encoder.eos_token_id = 2
    Trainables(bundle.family, Recipe(frozenset({"tokens"}), ("<v>",), initial_word="style"))
    assert encoder.eos_token_id == encoder.config.eos_token_id == bundle.family.tokenizers["text_encoder"].eos_token_id


@pytest.mark.parametrize("dora", [False, True])
def test_low_rank_updates_are_folded_as_their_formula_says(tiny_base: Path, dora: bool) -> None:
    bundle = load_bundle(tiny_base)
    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
    before = bundle.family.denoiser.get_submodule(layer).weight.detach().clone()
    recipe = Recipe(frozenset({"denoiser.low-rank"}), lora=LoraSection(rank=2, alpha=6, dora=dora))
    trained = Trainables(bundle.family, recipe, seed=1)
    named = trained.named()
    a, b = named[f"unet.{layer}.lora_A.weight"], named[f"unet.{layer}.lora_B.weight"]
    assert torch.equal(b, torch.zeros_like(b))
    with torch.no_grad():
        b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(0)))
    trained.fold()
    after = bundle.family.denoiser.get_submodule(layer).weight
    wanted = before + (6 / 2) * b.detach() @ a.detach()
    if dora:
        wanted = before.norm(dim=1, keepdim=True) * wanted / wanted.norm(dim=1, keepdim=True)
    torch.testing.assert_close(after, wanted, rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name in bundle.family.denoiser.state_dict())


def test_adapters_begin_from_the_seed_of_the_run(tiny_base: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        return next(iter(Trainables(load_bundle(tiny_base).family, Recipe(frozenset({"denoiser.low-rank"})), seed).named().values()))

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("name", ["textual-inversion", "lora", "custom-diffusion", "single-styleforge-apart", "svdiff"])
def test_interrupted_equals_uninterrupted(tiny_base: Path, folders: Folders, name: str) -> None:
    # Fault 10, for parameters that are put in.
    method: dict[str, Any] = {"name": name, "save": "delta", **({"train_text_encoder": True} if name == "lora" else METHODS[name])}
    config = configure(tiny_base, method=method, training={"steps": 4, "ema_decay": 0.9})
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", step=2)
    parts = train(config, folders, "parts")
    assert json.loads((parts / "training" / "timing.json").read_text())["resumed_from"] == 2
    assert (whole / DELTA_FILE).read_bytes() == (parts / DELTA_FILE).read_bytes()


def test_trained_parameters_are_fp32_whatever_the_base(tiny_base: Path) -> None:
    # Fault 6: fp16 trainables overflow, and lose updates below their last digit.
    for trains in (
        {"denoiser", "text_encoder", "identifiers"},
        {"denoiser.low-rank", "text_encoder.low-rank"},
        {"denoiser.cross-attention", "tokens"},
        {"denoiser.spectral", "text_encoder.spectral"},
    ):
        family = load_bundle(tiny_base).family
        for part in family.parts.values():
            part.half()
        trained = Trainables(family, Recipe(frozenset(trains), ("<v>",) if "tokens" in trains else ("style",), initial_word="style"))
        assert {value.dtype for value in trained.named().values()} == {torch.float32}


def test_a_rate_for_each_kind(tiny_base: Path) -> None:
    recipe = Recipe(frozenset({"denoiser.cross-attention", "text_encoder.low-rank", "tokens"}), ("<v>",), initial_word="style")
    trained = Trainables(load_bundle(tiny_base).family, recipe)
    assert sorted(group["lr"] for group in trained.groups({"denoiser": 1.0, "text_encoder": 2.0, "tokens": 3.0})) == [1.0, 2.0, 3.0]


def test_what_does_not_fit_the_base_is_refused(tiny_base: Path) -> None:
    family = load_bundle(tiny_base).family
    with pytest.raises(ConfigError, match=r"method\.lora\.targets.*no such layers \(nothing\)"):
        Trainables(family, Recipe(frozenset({"denoiser.low-rank"}), lora=LoraSection(targets=("nothing",))))
    with pytest.raises(InputError, match=r"already has a token 'sks</w>'"):
        Trainables(load_bundle(tiny_base).family, Recipe(frozenset({"tokens"}), ("sks</w>",), initial_word="style"))


def test_a_delta_that_does_not_fit_is_refused(trained: Trained, tmp_path: Path, tiny_v_base: Path) -> None:
    delta = Path(shutil.copytree(trained("lora", save="delta"), tmp_path / "delta"))
    card, file = delta / "styleforge.json", delta / DELTA_FILE
    base = json.loads(card.read_text())["base"]

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            load_bundle(delta, **options)

    for model, message in (
        (tiny_v_base, "the base that it was trained on"), ("/nowhere/base", "/nowhere/base"), (delta, "is itself a delta"),
    ):  # fmt: skip
        edit(card, base={**base, "model": str(model)})
        refused(message)
    edit(card, base=base)
    refused("is itself a delta", base=delta)
    tensors = load_file(file)
    name = min(tensors)
    save_file({**tensors, name: tensors[name][:1]}, file)
    refused("has shape")
    save_file({key: value for key, value in tensors.items() if key != name}, file)
    refused(f"lacks {name}")
    file.write_bytes(file.read_bytes()[:100])
    refused(r"delta\.safetensors: damaged")
    card.write_text("{}")
    refused("is not a record of a delta")
    card.unlink()
    refused(r"a delta without styleforge\.json")
