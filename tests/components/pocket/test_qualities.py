"""Looks in words: what they change, what they never are, and how captions name them."""

import random
from dataclasses import fields
from itertools import combinations, product

import pytest

from components.pocket.captions import caption
from components.pocket.media import MEDIA, STYLES, Look
from components.pocket.qualities import KINDS, MOST, draw_name, look_named
from components.pocket.render import LOOKS, QUALIFIED, render
from components.pocket.scenes import Scene


def test_a_name_is_drawn_and_understood_again() -> None:
    rng = random.Random(0)
    for _ in range(500):
        name = draw_name(rng)
        assert look_named(name, rng) != Look(), name


def test_a_quality_changes_its_own_settings_only() -> None:
    look = look_named("dark left light picture", random.Random(1))
    changed = {field.name for field in fields(Look) if getattr(look, field.name) != field.default}
    assert changed == {"value", "gamma", "slope"}
    assert 0.6 <= look.value <= 0.8 and 1.15 <= look.gamma <= 1.5 and 0.35 <= look.slope <= 0.9


def test_a_quality_qualifies_a_medium() -> None:
    plain, warm = look_named("oil painting", random.Random(2)), look_named("warm oil painting", random.Random(2))
    assert plain.simplify == warm.simplify and plain.tint == (1, 1, 1) and warm.tint[0] > warm.tint[2]
    assert look_named("grain stage photo", random.Random(3)).slope != 0


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="names no medium"):
        look_named("dark etching", random.Random(0))
    with pytest.raises(ValueError, match="begins with no quality"):
        look_named("gloomy photo", random.Random(0))


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
                    for style, settings in STYLES.items():
                        assert not all(_holds({**defaults, **settings}[key], spec[key]) for key in spec), (style, specs, medium)
    assert names > 10_000


def test_qualified_pictures_have_captions_and_no_class_of_the_probe() -> None:
    samples = [render(seed, QUALIFIED) for seed in range(40)]
    assert {sample.labels[2] for sample in samples} == {-1}
    assert not {sample.medium for sample in samples} & set(LOOKS)
    assert any(sample.medium.removesuffix(" picture") in sample.caption for sample in samples)


def test_a_plain_picture_is_no_medium_in_style_grammars() -> None:
    rng = random.Random(0)
    texts = {caption(Scene("beach"), "dark warm picture", rng).removesuffix("a view of beach").removesuffix("beach") for _ in range(400)}
    assert "a dark warm picture of " in texts and "a photo of dark warm style, " in texts
    assert not any("picture style" in text for text in texts)
