"""The art world on packages that the tests make: who is shown to whom, what captions say, and a base trained on it for a moment."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from components.art.families import FAMILIES
from components.art.packages import fetch
from components.bases import train_flow
from components.bases.train import train
from components.core.errors import InputError
from components.core.paths import embedded_weights
from components.core.world import World
from runs import art_world
from tests.made_art import NAMES, Registry, registry

__all__ = ["registry"]


@pytest.fixture
def world(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two families for the base, one target, the concepts of the made packages."""
    changes = {
        "BASE_FAMILIES": {"noto": "noto", "lines": "inked"},
        "TARGETS": ("boxes",),
        "STYLES": ("boxes",),
        "CONCEPTS": NAMES,
        "LOOKS": ("noto", "lines", "boxes"),
    }
    for name, value in changes.items():
        monkeypatch.setattr(art_world, name, value)
    fetch(list(FAMILIES.values()))
    art_world.drawings.cache_clear()
    yield art_world.art_world()
    art_world.drawings.cache_clear()


def test_a_world_without_its_packages_names_them(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(art_world, "LOOKS", ("noto", "boxes"))
    with pytest.raises(InputError, match=r"noto@1.0.0 is not installed, .*boxes@1.0.0 is not installed.*styleforge art fetch"):
        art_world.art_world()


def test_a_base_never_sees_the_targets_and_its_judges_see_all(world: World) -> None:
    turn = 2 * len(NAMES)
    for purpose in ("train", "qualified"):
        labels = world.render(purpose, turn, 0).labels
        # Each drawing of the base's families once.
        assert sorted(map(tuple, labels.tolist())) == [(family, concept) for family in range(2) for concept in range(len(NAMES))]
    assert set(world.render("evaluator", 3 * len(NAMES), 0).labels[:, 0]) == {0, 1, 2}
    assert set(world.render("check-evaluator-boxes", 5, 0).labels[:, 0]) == {2}
    assert world.attribute_table(world.render("train", 3, 0)).shape == (3, len(world.attributes))


def test_pictures_are_functions_of_purpose_and_number(world: World) -> None:
    first, again, other = (world.render(purpose, 6, 0) for purpose in ("train", "train", "check-vae"))
    assert first.pixels.shape == (6, 64, 64, 3) and first.pixels.dtype == np.uint8
    assert np.array_equal(first.pixels, again.pixels) and first.captions == again.captions
    assert not np.array_equal(first.pixels, other.pixels) and np.array_equal(first.labels, other.labels)


def test_captions_say_what_is_shown_and_may_name_look_and_qualities(world: World) -> None:
    plain, qualified = (world.render(purpose, 60, 0) for purpose in ("train", "qualified"))
    for data in (plain, qualified):
        for caption, description, (family, concept) in zip(data.captions, data.descriptions, data.labels.tolist(), strict=True):
            words = NAMES[concept].replace("-", " ")
            assert description == words or (description.startswith(f"{words}, ") and description.endswith(" background"))
            assert description in caption
            assert not ({"noto", "inked"} - {("noto", "inked")[family]}) & set(caption.replace(",", "").split())
    assert any(text == description for text, description in zip(plain.captions, plain.descriptions, strict=True))
    # A look in words changes the picture: nothing else differs between the two draws of the same drawing but size, place and ground.
    named = sum(any(kind in text for kind in ("vivid", "dark", "grain", "pixel", "line ")) for text in qualified.captions)
    assert named > sum("vivid" in text or "grain" in text for text in plain.captions)
    assert world.naming(random.Random(0), "ant", "lines").count("inked") == 1


def test_questions_know_their_answers(world: World) -> None:
    for question in world.questions(20):
        assert NAMES[question.truth["concept"]].replace("-", " ") in question.prompt
        assert ("noto", "inked")[question.truth["family"]] in question.prompt
    asked = world.style_questions("a photo of sks style, {prompt}", 10)
    assert len({question.truth["concept"] for question in asked}) == 10
    assert all(question.prompt == f"a photo of sks style, {NAMES[question.truth['concept']].replace('-', ' ')}" for question in asked)


def test_an_art_base_is_trained_from_the_flow_base(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_flow, "BATCH", 2)
    world, out, work = (
        replace(world, sets={"train": 8, "qualified": 8, "evaluator": 8}, render=_alone(world)),
        tmp_path / "out",
        tmp_path / "work",
    )
    moment = dict.fromkeys(("vae", "evaluator", "text", "transformer", "decoder", "probe"), 1e-6)
    with pytest.raises(InputError, match="art: no pocket-flow base"):
        train(out, world, base="art", parts=["vae"], work=work)
    out.mkdir()
    (out / "flow").symlink_to(embedded_weights("flow"))
    with pytest.raises(InputError, match="the vae part first"):
        train(out, world, base="art", parts=["text"], work=work)
    train(out, world, base="art", parts=["vae"], minutes=moment, work=work)
    with pytest.raises(InputError, match="the text part first"):
        train(out, world, base="art", parts=["transformer"], work=work)
    train(out, world, base="art", minutes=moment, work=work)
    assert {path.name for path in out.iterdir()} == {"flow", "art", "art-evaluator", "art-probe"}
    start, trained = (torch.load(work / "art" / f"{part}-checkpoint.pt", weights_only=True)["modules"] for part in ("text", "transformer"))
    # The transformer's training goes on from the encoders that were trained alone, not from fresh ones.
    one = {name.removeprefix("0."): value for name, value in start["modules"].items() if name.startswith("0.")}
    assert all((trained["text"][name] - value).abs().max() < 1e-2 for name, value in one.items())
    pipeline = StableDiffusion3Pipeline.from_pretrained(out / "art", text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32)
    picture = pipeline("ant", height=64, width=64, num_inference_steps=1, max_sequence_length=0, output_type="np").images
    assert picture.shape == (1, 64, 64, 3)


def _alone(world: World):
    """Rendering in this process: another one would not know the made packages."""
    return lambda purpose, count, workers: world.render(purpose, count, 0)
