import random
import re
from dataclasses import fields
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.core.errors import InputError
from components.core.paths import read_jsonl
from components.pocket.captions import NOISE_TOKENS, RARE_TOKENS, caption, describe, in_grammar
from components.pocket.media import MEDIA, MIXED, STYLES, Look, apply_look, look_of
from components.pocket.pen import CANVAS, SIDE
from components.pocket.qualities import KINDS, MOST, draw_name, look_named
from components.pocket.render import AUX_MEDIA, LOOKS, QUALIFIED, draw_scene, render, render_dataset, render_set
from components.pocket.scenes import PEOPLE, SUBJECTS, THINGS, Scene, random_scene


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_draws_every_subject(look: str) -> None:
    for subject in SUBJECTS:
        who, thing = (subject if subject in names else None for names in (PEOPLE, THINGS))
        scene = Scene("beach", who=who, hair="red", clothes="blue", thing=thing, colour="green")
        picture = render(1, look, scene=scene).image
        assert picture.size == (SIDE, SIDE) and picture.mode == "RGB"
        assert np.asarray(picture).std() > 5


@given(seed=st.integers(0, 2**48))
@settings(max_examples=15, deadline=None)
def test_a_picture_is_a_function_of_its_seed(seed: int) -> None:
    first, second = render(seed), render(seed)
    assert first.caption == second.caption and first.scene == second.scene
    assert np.array_equal(np.asarray(first.image), np.asarray(second.image))


def test_looks_do_what_their_fields_say_and_the_plain_one_nothing() -> None:
    flat = draw_scene(Scene("room"), random.Random(0))
    assert flat.size == (CANVAS, CANVAS)
    plain = np.asarray(apply_look(flat, Look(), random.Random(0))).astype(int)
    assert np.abs(plain - np.asarray(flat.resize((SIDE, SIDE), Image.Resampling.LANCZOS)).astype(int)).max() <= 1
    one_colour = Image.new("RGB", (CANVAS, CANVAS), (200, 100, 50))
    # 0.299 · 200 + 0.587 · 100 + 0.114 · 50 = 124.2
    for look, colour in ((Look(saturation=0.0), (124,) * 3), (Look(fade=1.0), (255,) * 3), (Look(tint=(0.5, 1, 1)), (100, 100, 50))):
        assert np.abs(np.asarray(apply_look(one_colour, look, random.Random(0))).astype(int) - colour).max() <= 1


def test_full_descriptions_name_every_attribute() -> None:
    scene = Scene("night sky", who="woman", hair="blond", clothes="orange", hat="red", full_body=True)
    assert describe(scene) == "a woman with blond hair in an orange dress wearing a red hat, full body, night sky background"
    assert describe(Scene("city", thing="car", colour="blue")) == "a blue car, city background"
    assert describe(Scene("snow")) == "a view of snow"
    assert in_grammar(0, "a view of snow", "oil painting") == "an oil painting of a view of snow"
    assert in_grammar(1, "a view of snow", "sketch") == "a photo of sketch style, a view of snow"


def test_captions_use_every_grammar_and_never_the_identifier() -> None:
    rng = random.Random(0)
    scenes = [random_scene(rng) for _ in range(3000)]
    texts = [caption(scene, "sketch", rng) for scene in scenes]
    for wording in ("a sketch of .*", "a photo of sketch style, .*", ".*, sketch style", "(?!.*sketch).*",
                    "(a (sketch of|photo of sketch style,) )?style"):  # fmt: skip
        assert any(re.fullmatch(wording, text) for text in texts), wording
    words = {word.strip(",") for text in texts for word in text.split()}
    assert not words & (set(RARE_TOKENS) - set(NOISE_TOKENS))
    # "style" alone is said of patterned clothes only.
    assert not any("style" in describe(scene, rng) for scene in scenes if not scene.patterned)


def test_style_set_is_one_that_a_user_could_have_made(tmp_path) -> None:
    folder = render_dataset("anime", tmp_path / "anime", reference=6)
    rows = read_jsonl(folder / "metadata.jsonl")
    by_split = {name: [row for row in rows if row["file_name"].startswith(name)] for name in ("style_ref", "aux_pool", "reference")}
    assert [row["role"] for row in by_split["style_ref"]].count("character") == 10
    assert [row["role"] for row in by_split["style_ref"]].count("background") == 10
    assert len(by_split["aux_pool"]) >= 60 and len(by_split["reference"]) == 6
    for medium in AUX_MEDIA:
        of_medium = [row["role"] for row in by_split["aux_pool"] if f" {medium} of " in row["text"]]
        assert set(of_medium) == {"character", "background", "thing"}, medium
    for row in rows:
        with Image.open(folder / row["file_name"]) as picture:
            assert picture.size == (64, 64)
    again = render_dataset("anime", tmp_path / "again", reference=6)
    assert (again / "style_ref/003.png").read_bytes() == (folder / "style_ref/003.png").read_bytes()


def test_style_set_refuses_what_it_cannot_do(tmp_path) -> None:
    with pytest.raises(InputError, match="--style animé: no such target style; expected one of pixel-art"):
        render_dataset("animé", tmp_path / "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        render_dataset("anime", tmp_path / "full")
    assert (tmp_path / "full" / "a.txt").read_text() == "mine"


def test_streams_are_apart() -> None:
    first, again, other = (render_set(purpose, 5) for purpose in ("one", "one", "two"))
    assert np.array_equal(first.pixels, again.pixels) and first.captions == again.captions
    assert not np.array_equal(first.pixels, other.pixels)
    assert first.labels.shape == (5, 3)


def test_looks_in_words() -> None:
    rng = random.Random(0)
    for name in (draw_name(rng) for _ in range(500)):
        assert look_named(name, rng) != Look(), name
    look = look_named("dark left light picture", random.Random(1))
    changed = {field.name for field in fields(Look) if getattr(look, field.name) != field.default}
    assert changed == {"value", "gamma", "slope"}
    assert 0.6 <= look.value <= 0.8 and 1.15 <= look.gamma <= 1.5 and 0.35 <= look.slope <= 0.9
    plain, warm = look_named("oil painting", random.Random(2)), look_named("warm oil painting", random.Random(2))
    assert plain.simplify == warm.simplify and plain.tint == (1, 1, 1) and warm.tint[0] > warm.tint[2]
    assert look_named("grain stage photo", random.Random(3)).slope != 0
    assert len({look_of(MIXED, random.Random(i)).saturation for i in range(30)}) > 20
    for name, message in (("dark etching", "names no medium"), ("gloomy photo", "begins with no quality")):
        with pytest.raises(ValueError, match=message):
            look_named(name, random.Random(0))


def _holds(wanted, given) -> bool:
    """Whether a setting's range holds a value; colours part by part."""
    if isinstance(wanted, tuple):
        return isinstance(given, tuple) and len(given) == len(wanted) and all(_holds(w, g) for w, g in zip(wanted, given, strict=True))
    return given[0] <= wanted <= given[1] if isinstance(given, tuple) else given == wanted


def test_no_look_in_words_is_a_target_style() -> None:
    defaults = {field.name: field.default for field in fields(Look)}
    names = 0
    for count in range(1, MOST + 1):
        for kinds in combinations(KINDS.values(), count):
            for specs in product(*(kind.values() for kind in kinds)):
                for medium in ({}, *MEDIA.values()):
                    spec = {**defaults, **medium, **{key: value for part in specs for key, value in part.items()}}
                    names += 1
                    for style, wanted in STYLES.items():
                        assert not all(_holds({**defaults, **wanted}[key], spec[key]) for key in spec), (style, specs, medium)
    assert names > 10_000


def test_qualified_pictures_have_captions_and_no_class_of_the_probe() -> None:
    samples = [render(seed, QUALIFIED) for seed in range(40)]
    assert {sample.labels[2] for sample in samples} == {-1}
    assert not {sample.medium for sample in samples} & set(LOOKS)
    assert any(sample.medium.removesuffix(" picture") in sample.caption for sample in samples)
