from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.config import MethodSection
from components.diffusion.methods import method_for
from components.diffusion.samples import EpochOrder, Mixer, Sample, read_training_set
from components.errors import InputError
from tests.components.diffusion.conftest import Folders, write_folders


def mixer(count: int = 5, aux: int = 3, rank: int = 0, world: int = 1, **options: float) -> Mixer:
    instances = [Sample(f"i{index}", Path(f"i{index}"), f"instance {index}", 1.0) for index in range(count)]
    preserved = [Sample(f"a{index}", Path(f"a{index}"), f"aux {index}", 0.25) for index in range(aux)]
    given = {"flip": 0.5, "crops": 3, "dropout": 0.0, **options}
    return Mixer(
        instances, preserved, batch_size=2, aux_batch_size=4, flip=given["flip"], crops=int(given["crops"]), dropout=given["dropout"],
        seed=7, rank=rank, world=world,
    )  # fmt: skip


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 3))
def test_every_pass_holds_every_item_once(size: int, epoch: int) -> None:
    order = EpochOrder(size, 0, "x")
    assert sorted(order.at(epoch * size + offset) for offset in range(size)) == list(range(size))


def test_the_order_is_a_function_of_the_position() -> None:
    fresh = EpochOrder(7, 1, "x")
    forward = [fresh.at(position) for position in range(30)]
    assert [EpochOrder(7, 1, "x").at(position) for position in reversed(range(30))] == forward[::-1]
    assert forward[:7] != forward[7:14]


def test_a_batch_mixes_both_groups_with_weights_per_sample() -> None:
    batch = mixer().batch(0)
    assert [sample.id[0] for sample in batch.samples] == ["i", "i", "a", "a", "a", "a"]
    assert batch.instances == 2
    torch.testing.assert_close(batch.weights, torch.tensor([0.5, 0.5, *[0.25 / 4] * 4]))


def test_batches_can_be_asked_for_in_any_order() -> None:
    forward = [mixer().batch(number) for number in range(6)]
    one = mixer()
    for number in (5, 0, 3):
        assert one.batch(number).samples == forward[number].samples
        assert one.batch(number).variants == forward[number].variants


def test_prompts_belong_to_their_pictures() -> None:
    # Fault 3: a cache keyed by step pairs pictures with other pictures' captions.
    for number in range(20):
        for sample, prompt in zip(mixer().batch(number).samples, mixer().batch(number).prompts, strict=True):
            assert prompt.split()[1] == sample.id[1:]


def test_ranks_share_a_pass_without_overlap() -> None:
    seen: Counter[str] = Counter()
    for rank in range(3):
        seen.update(sample.id for sample in mixer(count=6, aux=0, rank=rank, world=3).batch(0).samples)
    assert set(seen.values()) == {1}
    assert len(seen) == 6


def test_flips_crops_and_dropout_follow_their_probabilities() -> None:
    never = mixer(flip=0.0, crops=1, dropout=0.0)
    always = mixer(flip=1.0, crops=3, dropout=1.0)
    assert not any(variant.flipped or variant.crop for number in range(20) for variant in never.batch(number).variants)
    assert all(variant.flipped for number in range(20) for variant in always.batch(number).variants)
    assert {variant.crop for number in range(20) for variant in always.batch(number).variants} == {0, 1, 2}
    assert set(always.batch(0).prompts) == {""}


def test_the_training_set_is_read_from_the_three_folders(tmp_path: Path) -> None:
    folders = write_folders(tmp_path, style=4, aux=3, reference=40)
    config = MethodSection(
        instance_prompt="a photo of {token} style, {caption}", aux_prompt="a photo of style, {caption}", prior_weight=0.5
    )
    data = read_training_set(*folders.inputs, method_for(config), validation=8)
    assert [sample.prompt for sample in data.instances] == [f"a photo of sks style, a man {index}" for index in range(4)]
    assert {sample.prompt for sample in data.aux} == {"a photo of style, a woman"}
    assert {sample.weight for sample in data.aux} == {0.5}
    assert data.held_out
    assert len({sample.id for sample in data.validation}) == 8


def test_without_a_reference_styleref_validates_and_zero_weight_needs_no_aux(folders: Folders) -> None:
    data = read_training_set(*folders.inputs, method_for(MethodSection(prior_weight=0.0)))
    assert not data.held_out
    assert data.validation == data.instances
    assert data.aux == ()


def test_an_empty_aux_folder_means_none(tmp_path: Path) -> None:
    assert read_training_set(*write_folders(tmp_path, aux=0).inputs, method_for(MethodSection())).aux == ()


def test_incomplete_folders_are_refused_by_name(folders: Folders) -> None:
    method = method_for(MethodSection())
    (folders.aux / "images" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png.*missing"):
        read_training_set(*folders.inputs, method)
    split = json.loads((folders.split / "split.json").read_text())
    split["style_ref"].append({"path": "style_ref/99.png", "role": None})
    (folders.split / "split.json").write_text(json.dumps(split))
    with pytest.raises(InputError, match=r"99\.png, which the manifest does not hold"):
        read_training_set(*folders.inputs, method)
    (folders.split / "split.json").unlink()
    with pytest.raises(InputError, match=r"no split\.json"):
        read_training_set(*folders.inputs, method)
