import logging
from pathlib import Path
from typing import get_args
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.config import TransformName
from components.core.errors import InputError
from components.core.images import load_rgb
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.training.caches import LatentCache, PromptCache
from components.diffusion.training.pictures import TRANSFORMS, cut, to_uint8
from components.diffusion.training.samples import Sample
from components.diffusion.training.variety import Variant
from tests.components.diffusion.conftest import edit

CPU = torch.device("cpu")
SQUARE = (32, 32)


def sample(tmp_path: Path, name: str = "a", value: int = 0) -> Sample:
    pixels = np.random.default_rng(value).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return Sample(f"sha-{name}", tmp_path / f"{name}.png", "a man", 1.0)


def test_pictures_keep_their_aspect_and_their_centre() -> None:
    # A red left third, green middle, blue right third: the centre square of a 3:1 picture is all green.
    wide = np.zeros((32, 96, 3), dtype=np.uint8)
    wide[:, :32, 0], wide[:, 32:64, 1], wide[:, 64:, 2] = 255, 255, 255
    pixels = cut(Image.fromarray(wide), SQUARE, Variant(), 0, "x")
    assert pixels.shape == (3, 32, 32) and pixels[1].min() > 0.9 and pixels[0].max() < -0.9


def test_variants_are_the_same_whenever_they_are_made() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), dtype=np.uint8))
    views = [cut(picture, SQUARE, Variant(crop), 0, "x") for crop in range(4)]
    assert all(torch.equal(view, cut(picture, SQUARE, Variant(crop), 0, "x")) for crop, view in enumerate(views))
    assert len({view.numpy().tobytes() for view in views}) == 4
    assert torch.equal(cut(picture, SQUARE, Variant(2, True), 0, "x"), views[2].flip(-1))
    assert not torch.equal(cut(picture, SQUARE, Variant(2), 0, "y"), views[2])


def test_to_uint8_rounds_and_clips() -> None:
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).view(1, 1, 1, 5).expand(1, 3, 1, 5)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_scaling_and_shift_come_from_the_vae(copy: Path) -> None:
    # Fault 7: never 0.18215 by hand.
    edit(copy / "vae" / "config.json", scaling_factor=3.0, shift_factor=0.5)
    family = load_bundle(copy, device="cpu").family
    mean = torch.full((1, 4, 2, 2), 2.0)
    latents = family.sample_latents(torch.cat([mean, torch.zeros_like(mean)], 1), None)
    assert torch.equal(latents, torch.full_like(mean, (2.0 - 0.5) * 3.0))
    with torch.no_grad():
        decoded = family.vae.decode(torch.full((1, 4, 16, 16), 2.0)).sample
    torch.testing.assert_close(family.decode_latents(torch.full((1, 4, 16, 16), 4.5)), decoded)


def test_moments_are_kept_and_draws_stay_fresh(bundle: Bundle, tmp_path: Path) -> None:
    cache = LatentCache(bundle.family, load_rgb, CPU, 0, [SQUARE])
    one = sample(tmp_path)
    moments = cache.moments([one], [Variant()])
    distribution = bundle.family.vae.encode(cut(load_rgb(one.file), SQUARE, Variant(), 0, one.id)[None]).latent_dist
    torch.testing.assert_close(moments, distribution.parameters)
    noise = torch.randn((2, *distribution.mean.shape), generator=torch.Generator().manual_seed(1))
    draws = [bundle.family.sample_latents(moments, each) for each in noise]
    assert not torch.equal(*draws)
    assert torch.equal(draws[0], bundle.family.sample_latents(moments, noise[0]))
    torch.testing.assert_close(draws[0], (distribution.mean + distribution.std * noise[0]) * 0.5)


def test_latents_are_keyed_by_picture_and_variant_and_encoded_once(bundle: Bundle, tmp_path: Path) -> None:
    load = Mock(wraps=load_rgb)
    first, second = sample(tmp_path, "a", 1), sample(tmp_path, "b", 2)
    cache = LatentCache(bundle.family, load, CPU, 0, [SQUARE])
    cache.fill([first, second], [Variant(), Variant(0, True)])
    assert sorted(call.args[0].name for call in load.call_args_list) == ["a.png", "a.png", "b.png", "b.png"]
    pair = cache.moments([second, first], [Variant(), Variant(0, True)])
    assert load.call_count == 4
    direct = LatentCache(bundle.family, load_rgb, CPU, 0, [SQUARE], enabled=False)
    latents = bundle.family.sample_latents
    wanted = latents(direct.moments([second, first], [Variant(), Variant(0, True)]), None)
    torch.testing.assert_close(latents(pair, None), wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(latents(cache.moments([second, first], [Variant(), Variant()]), None), wanted, rtol=0, atol=1e-2)


def test_a_vae_that_overflows_names_the_picture(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Fault 6: fp16 VAEs overflow, and a cache would keep the NaN for the whole training.
    monkeypatch.setattr(type(bundle.family), "encode_images", lambda _, pixels: torch.full((len(pixels), 8, 16, 16), float("nan")))
    with pytest.raises(InputError, match=r"bad\.png.*NaN"):
        LatentCache(bundle.family, load_rgb, CPU, 0, [SQUARE]).fill([sample(tmp_path, "bad")], [Variant()])


def test_each_prompt_is_encoded_once_and_gathered(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Mock(wraps=bundle.family.encode_tokens)
    monkeypatch.setattr(bundle.family, "encode_tokens", encode)
    cache = PromptCache(bundle.family, CPU, keep_states=True)
    states = cache.encode(["a man", "a dog", "a man"]).states
    assert torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[1])
    cache.encode(["a dog"])
    assert sum(len(call.args[0]) for call in encode.call_args_list) == 2
    direct = PromptCache(bundle.family, CPU, keep_states=False).encode(["a man", "a dog", "a man"]).states
    torch.testing.assert_close(states, direct, rtol=0, atol=1e-5)


def test_prompts_that_do_not_fit_are_named(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    # Fault 8: prompts beyond the tokenizer's limit are cut silently.
    long = "a " * 40 + "dog"
    with caplog.at_level(logging.WARNING, logger="components.diffusion"):
        ids = bundle.family.tokenize(["a man", long])["text_encoder"]
    assert ids.shape == (2, 32)
    assert [record.getMessage() for record in caplog.records] == [f"prompt {long!r} has 43 tokens, 32 fit: its end is cut off"]


def test_transforms_by_hand_change_the_whole_picture_before_it_is_cut() -> None:
    values = np.array([[0, 40, 99, 100], [128, 150, 200, 255]], dtype=np.uint8)
    picture = Image.fromarray(np.repeat(values[..., None], 3, axis=2))

    def changed(name: TransformName) -> list[list[int]]:
        pixels = cut(picture, (2, 4), Variant(transform=name), 0, "x")
        return ((pixels[0] + 1) * 127.5).round().int().tolist()  # type: ignore[no-any-return]

    assert changed("invert") == (255 - values.astype(int)).tolist()
    # Two bits: what is left are multiples of 64.
    assert changed("posterize") == [[0, 0, 64, 64], [128, 128, 192, 192]]
    # From 100 up inverted.
    assert changed("solarize") == [[0, 40, 99, 155], [127, 105, 55, 0]]
    assert changed("horizontal-flip") == values[:, ::-1].tolist() and changed("vertical-flip") == values[::-1].tolist()
    assert changed("autocontrast") == values.tolist()
    assert set(TRANSFORMS) == set(get_args(TransformName))


def test_the_latents_of_a_transformed_view_are_its_own(bundle: Bundle, tmp_path: Path) -> None:
    one = sample(tmp_path, "one")
    cache = LatentCache(bundle.family, load_rgb, CPU, 0, [SQUARE])
    views = [Variant(), *(Variant(transform=name) for name in get_args(TransformName))]
    cache.fill([one], views)
    moments = cache.moments([one] * len(views), views)
    for place, view in enumerate(views):
        wanted = bundle.family.encode_images(cut(load_rgb(one.file), SQUARE, view, 0, one.id)[None])
        torch.testing.assert_close(moments[place], wanted[0], rtol=0, atol=1e-5)
    assert len({tuple(row.flatten()[:50].tolist()) for row in moments}) > 6
