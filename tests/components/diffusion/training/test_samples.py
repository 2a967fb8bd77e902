import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.config import MethodSection
from components.core.errors import InputError
from components.diffusion.training.methods import method_for
from components.diffusion.training.samples import EpochOrder, Mixer, Sample, choose_style_refs, read_training_set
from components.diffusion.training.variety import Variety
from tests.components.diffusion.conftest import Folders, edit, write_folders


def mixer(count: int = 5, aux: int = 3, **options: Any) -> Mixer:
    instances = [Sample(f"i{index}", Path(f"i{index}"), f"instance {index}", 1.0) for index in range(count)]
    preserved = [Sample(f"a{index}", Path(f"a{index}"), f"aux {index}", 0.25) for index in range(aux)]
    sizes = {name: options.pop(name) for name in ("batch_size", "aux_batch_size", "rank", "world") if name in options}
    variety = Variety(**{"flip": 0.5, "crops": 3, **options})
    return Mixer(instances, preserved, **{"batch_size": 2, "aux_batch_size": 4, "seed": 7, **sizes}, variety=variety)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 3))
def test_every_pass_holds_every_item_once(size: int, epoch: int) -> None:
    order = EpochOrder(size, 0, "x")
    assert sorted(order.at(epoch * size + offset) for offset in range(size)) == list(range(size))


def test_a_batch_mixes_both_groups_with_weights_per_sample() -> None:
    batch = mixer().batch(0)
    assert [sample.id[0] for sample in batch.samples] == ["i", "i", "a", "a", "a", "a"]
    assert batch.instances == 2
    torch.testing.assert_close(batch.weights, torch.tensor([0.5, 0.5, *[0.25 / 4] * 4]))


def test_batches_come_in_any_order_and_prompts_belong_to_their_pictures() -> None:
    # Fault 3: a cache keyed by step pairs pictures with other pictures' captions.
    one = mixer()
    for number in reversed(range(20)):
        batch = one.batch(number)
        fresh = mixer().batch(number)
        assert (batch.samples, batch.variants) == (fresh.samples, fresh.variants)
        assert all(prompt.split()[1] == sample.id[1:] for sample, prompt in zip(batch.samples, batch.prompts, strict=True))


def test_ranks_divide_the_batch_that_one_process_would_have() -> None:
    whole = mixer(7, 5, batch_size=6, aux_batch_size=3, dropout=0.3)
    assert whole.rows == list(range(whole.total)) == list(range(9))
    parts = [mixer(7, 5, batch_size=2, aux_batch_size=1, dropout=0.3, rank=rank, world=3) for rank in range(3)]
    assert [part.rows for part in parts] == [[0, 1, 6], [2, 3, 7], [4, 5, 8]]
    for number in range(4):
        one = whole.batch(number)
        for part in parts:
            batch = part.batch(number)
            assert (part.total, batch.instances) == (9, 2)
            for name in ("samples", "variants", "prompts"):
                assert getattr(batch, name) == tuple(getattr(one, name)[row] for row in part.rows)
            # The mean of the processes' gradients is taken, so each weighs its own part as a whole.
            torch.testing.assert_close(batch.weights, 3 * one.weights[part.rows])


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
    assert {(sample.prompt, sample.weight) for sample in data.aux} == {("a photo of style, a woman", 0.5)}
    assert data.held_out and len({sample.id for sample in data.validation}) == 8


def test_without_a_reference_styleref_validates_and_aux_may_be_absent(folders: Folders, tmp_path: Path) -> None:
    data = read_training_set(*folders.inputs, method_for(MethodSection(prior_weight=0.0)))
    assert (data.held_out, data.validation, data.aux) == (False, data.instances, ())
    assert read_training_set(*write_folders(tmp_path / "empty", aux=0).inputs, method_for(MethodSection())).aux == ()


def test_incomplete_folders_are_refused_by_name(folders: Folders) -> None:
    method = method_for(MethodSection())
    (folders.aux / "images" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png.*missing"):
        read_training_set(*folders.inputs, method)
    split = json.loads((folders.split / "split.json").read_text())
    edit(folders.split / "split.json", style_ref=[*split["style_ref"], {"path": "style_ref/99.png", "role": None}])
    with pytest.raises(InputError, match=r"99\.png, which is not in the manifest"):
        read_training_set(*folders.inputs, method)
    (folders.split / "split.json").unlink()
    with pytest.raises(InputError, match=r"split\.json: no such file"):
        read_training_set(*folders.inputs, method)


def test_each_concept_has_its_own_pictures_and_its_own_aux(tmp_path: Path) -> None:
    config = MethodSection(
        name="multi-styleforge",
        concepts=[
            {"identifier": "sks", "roles": ["character"], "aux_prompt": "people"},
            {"identifier": "ukj", "roles": ["background"], "aux_prompt": "places"},
        ],  # type: ignore[arg-type]
    )
    data = read_training_set(*write_folders(tmp_path, style=10, backgrounds=4).inputs, method_for(config))
    assert Counter(sample.prompt for sample in data.instances) == {"a photo of sks style": 6, "a photo of ukj style": 4}
    assert Counter(sample.prompt for sample in data.aux) == {"people": 2, "places": 2}
    assert len({sample.id for sample in data.aux}) == 4


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"style_ref": "people"}, [(6, 0)]), ({"style_ref": "backgrounds"}, [(0, 4)]), ({}, [(6, 4)]),
        ({"style_ref_count": 5}, [(2, 3), (3, 2)]), ({"style_ref_count": 9}, [(5, 4)]),
        ({"style_ref": "people", "style_ref_count": 3}, [(3, 0)]),
    ],
)  # fmt: skip
def test_style_ref_by_content_and_number(tmp_path: Path, settings: dict[str, object], counts: list[tuple[int, int]]) -> None:
    folders = write_folders(tmp_path, style=10, backgrounds=4)
    method = method_for(MethodSection(**settings))  # type: ignore[arg-type]
    rows = json.loads((folders.split / "split.json").read_text())["style_ref"]
    chosen = choose_style_refs(rows, method, 3)
    counted = Counter(row["role"] for row in chosen)
    assert (counted["character"], counted["background"]) in counts
    assert chosen == choose_style_refs(rows, method, 3)
    assert len(read_training_set(*folders.inputs, method, seed=3).instances) == len(chosen)
    if settings == {"style_ref_count": 5}:
        assert chosen != choose_style_refs(rows, method, 4)


def test_too_few_pictures_and_missing_roles_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"method\.style_ref_count: 99 requested, 10 available"):
        read_training_set(*write_folders(tmp_path / "a", style=10).inputs, method_for(MethodSection(style_ref_count=99)))
    with pytest.raises(InputError, match=r"no StyleRef image for the token 'ukj'.*background or thing"):
        read_training_set(*write_folders(tmp_path / "b").inputs, method_for(MethodSection(name="multi-styleforge")))


def test_prompts_differ_by_template_caption_and_named_transform(tmp_path: Path) -> None:
    config = MethodSection(
        instance_prompts=("a photo of {token} style, {caption}", "{caption}, in {token} style"),
        aux_prompt="a photo of style, {caption}",
        loss="calibrated",  # type: ignore[arg-type]
    )
    data = read_training_set(*write_folders(tmp_path, style=1, aux=1).inputs, method_for(config))
    variety = Variety(captionless=0.5, transforms=("posterize", "vertical-flip"))
    one = Mixer(data.instances, data.aux, batch_size=4, aux_batch_size=2, variety=variety, seed=7)
    counts: Counter[str] = Counter()
    for number in range(200):
        batch = one.batch(number)
        for sample, words, variant in list(zip(batch.samples, batch.words, batch.variants, strict=True))[: batch.instances]:
            done = {None: "", "posterize": " with the posterize transformation", "vertical-flip": " with the vertical flip transformation"}
            suffix = done[variant.transform]
            bare = words.unstyled == f"a photo of style{suffix}"
            assert bare or words.unstyled == f"a photo of style, a man 0{suffix}"
            own = ["a photo of sks style", "in sks style"] if bare else ["a photo of sks style, a man 0", "a man 0, in sks style"]
            assert words.prompt in [each + suffix for each in own] and sample.id
            # The plain caption is preserved too, where the prompt has one.
            assert words.preserved in ({words.unstyled} if bare else {words.unstyled, f"a man 0{suffix}"})
            counts.update([f"bare {bare}", f"template {'in sks' in words.prompt}", f"transform {variant.transform}"])
        # Aux pictures stay as they are.
        assert all(
            variant.transform is None and "transformation" not in prompt
            for variant, prompt in zip(batch.variants[4:], batch.prompts[4:], strict=True)
        )
    assert counts["bare True"] / 800 == pytest.approx(0.5, abs=0.06) and counts["template True"] / 800 == pytest.approx(0.5, abs=0.06)
    assert counts["transform None"] / 800 == pytest.approx(0.5, abs=0.06)
    assert counts["transform posterize"] / 800 == pytest.approx(0.25, abs=0.05)
    # What a step may say is known beforehand, so that text encoders can leave the device.
    known = set(data.prompts(method_for(config), variety))
    said = {prompt for number in range(50) for words in one.batch(number).words for prompt in (words.prompt, words.unstyled)}
    assert said <= known


def test_variety_moves_no_draw_of_the_plain_training() -> None:
    plain, varied = mixer(dropout=0.3), mixer(dropout=0.3, captionless=0.5, transforms=("invert",))
    for number in range(20):
        one, other = plain.batch(number), varied.batch(number)
        assert one.samples == other.samples
        assert [(each.crop, each.flipped) for each in one.variants] == [(each.crop, each.flipped) for each in other.variants]
        assert [prompt == "" for prompt in one.prompts] == [prompt == "" for prompt in other.prompts]
