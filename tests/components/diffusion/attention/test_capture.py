from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention

from components.core.config import SamplingSection
from components.core.errors import InputError, StyleForgeError
from components.diffusion.attention.capture import (
    AttentionRecord,
    HeatMap,
    attention_probabilities,
    coarser,
    explain_pictures,
    record_attention,
    telling_words,
    token_positions,
    words_of,
    words_to_map,
)
from components.diffusion.models.bundle import Bundle, load_bundle
from components.diffusion.models.tokens import add_tokens, row_names
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import draw_pictures

PROMPT = "a photo of sks style, a man wearing a hat"


@pytest.fixture(params=["bundle", "xl"])
def either(request: pytest.FixtureRequest) -> Bundle:
    """Stable Diffusion 1.x, then XL."""
    found: Bundle = request.getfixturevalue(request.param)
    return found


def ask(index: int = 0, prompt: str = PROMPT) -> PromptRequest:
    return PromptRequest(f"p{index}", "people", prompt.rpartition(", ")[2], prompt)


def settings(**options: object) -> SamplingSection:
    return SamplingSection(**{"steps": 3, "batch_size": 4, "guidance": 4.0, **options})


def layer(heads: int = 2, **options: object) -> Attention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Attention(query_dim=8, cross_attention_dim=6, heads=heads, dim_head=4, **options).eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(attn: Attention, states: torch.Tensor, context: torch.Tensor) -> np.ndarray:
    """softmax(q kᵀ / √d) of each head in NumPy's double precision, averaged over the heads: (N, Q, L)."""
    query, key = (
        x.numpy().astype(float) @ projection.weight.detach().numpy().astype(float).T
        for x, projection in ((states, attn.to_q), (context, attn.to_k))
    )
    size = query.shape[-1] // attn.heads
    maps = []
    for head in range(attn.heads):
        part = slice(head * size, (head + 1) * size)
        logits = query[..., part] @ key[..., part].transpose(0, 2, 1) / np.sqrt(size)
        exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
        maps.append(exponents / exponents.sum(axis=-1, keepdims=True))
    return np.mean(maps, axis=0)


@pytest.mark.parametrize("options", [{}, {"qk_norm": "layer_norm"}, {"cross_attention_norm": "layer_norm"}])
@pytest.mark.parametrize("masked", [False, True])
def test_the_map_is_what_the_layer_itself_weighs_the_values_with(options: dict[str, str], masked: bool) -> None:
    attn, states, context = layer(heads=1, **options), noise(2, 9, 8), noise(2, 5, 6, seed=1)
    mask = torch.tensor([[[0.0, 0, 0, -10000, -10000]], [[0.0, 0, -10000, 0, 0]]]) if masked else None
    found = attention_probabilities(attn, states, context, mask)
    normed = attn.norm_encoder_hidden_states(context) if attn.norm_cross else context
    with torch.no_grad():
        torch.testing.assert_close(attn.to_out[0](found @ attn.to_v(normed)), attn(states, context, mask))
    if masked:
        assert found[0, :, 3:].abs().max() == 0


def test_a_networks_map_is_the_mean_over_its_layers_by_hand(either: Bundle) -> None:
    family, seen = either.family, []
    layers = [part for part in family.denoiser.modules() if isinstance(part, Attention) and part.is_cross_attention]
    hooks = [
        part.register_forward_pre_hook(
            lambda part, args, kwargs: seen.append((part, args[0], kwargs["encoder_hidden_states"])), with_kwargs=True
        )
        for part in layers
    ]
    conditioning = family.encode_prompts(["", "", PROMPT, "a dog"])
    latents = noise(4, *family.latent_shape())
    with torch.no_grad(), record_attention(family, 2, (32, 32)) as record:
        for step in (900, 100):
            family.predict(latents, torch.tensor(step), conditioning)
    for hook in hooks:
        hook.remove()
    assert len(layers) >= 4 and len(seen) == record.calls == 2 * len(layers)
    # All layers of the tiny networks see 8 × 8 places; the rows of the negative prompt are the first two.
    mean = np.mean([by_hand(part, states[2:], context[2:]) for part, states, context in seen], axis=0)
    grid = mean.transpose(0, 2, 1).reshape(2, 32, 8, 8)
    places = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    for axis in (2, 3):
        below, above = np.floor(places).astype(int), np.ceil(places).astype(int)
        weight = (places - below).reshape([-1 if dimension == axis else 1 for dimension in range(4)])
        grid = grid.take(below, axis) * (1 - weight) + grid.take(above, axis) * weight
    maps = record.maps().numpy()
    np.testing.assert_allclose(maps, grid, rtol=0, atol=1e-6)
    np.testing.assert_allclose(maps.sum(axis=1), 1.0, atol=1e-5)


def test_layers_of_every_resolution_count_alike() -> None:
    record = AttentionRecord(1, (5, 6))
    for places, value in ((30, 0.2), (9, 0.6), (9, 0.1)):
        record.add(torch.full((1, places, 1), value))
    assert torch.allclose(record.maps(), torch.full((1, 1, 5, 6), 0.3))
    assert [coarser((5, 6), places) for places in (30, 9, 4, 1)] == [(5, 6), (3, 3), (2, 2), (1, 1)]
    with pytest.raises(StyleForgeError, match="7 places"):
        coarser((5, 6), 7)
    with pytest.raises(StyleForgeError, match="no cross-attention"):
        AttentionRecord(1, (5, 6)).maps()


@pytest.mark.parametrize(("scheduler", "guidance"), [("dpm++", 1.0), ("dpm++", 4.0), ("euler-a", 4.0)])
def test_recording_changes_no_bit_of_a_picture(either: Bundle, scheduler: str, guidance: float) -> None:
    chosen = settings(scheduler=scheduler, guidance=guidance)
    requests = [ask(index, prompt) for index, prompt in enumerate([PROMPT, "a photo of sks style, a dog"])]
    before = [np.asarray(picture) for _, picture in draw_pictures(either, requests, chosen, 7)]
    explained = list(explain_pictures(either, [(item, ["sks"]) for item in requests], chosen, 7))
    assert [item.job.request for item in explained] == requests
    assert all((np.asarray(item.picture) == picture).all() for item, picture in zip(explained, before, strict=True))


def test_the_batch_does_not_matter_to_a_map(bundle: Bundle) -> None:
    asked = [(ask(index, f"a photo of sks style, a {what}"), ["sks", what]) for index, what in enumerate(["man", "dog", "house"])]
    alone = list(explain_pictures(bundle, asked, settings(batch_size=1), 0))
    together = list(explain_pictures(bundle, asked[::-1], settings(batch_size=2), 0))
    for one, other in zip(alone, together, strict=True):
        assert one.job == other.job
        for mine, theirs in zip(one.maps, other.maps, strict=True):
            assert mine.token == theirs.token and mine.values.shape == (16, 16)
            np.testing.assert_allclose(mine.values, theirs.values, atol=1e-4)


def test_the_layers_get_their_own_processors_back(bundle: Bundle) -> None:
    before = dict(bundle.family.denoiser.attn_processors)
    with pytest.raises(RuntimeError, match="stop"), record_attention(bundle.family, 1, (32, 32)):
        assert bundle.family.denoiser.attn_processors != before
        raise RuntimeError("stop")
    assert bundle.family.denoiser.attn_processors == before


@pytest.mark.parametrize(
    ("prompt", "word", "positions"),
    [
        (PROMPT, "sks", (4,)), (PROMPT, "style", (5,)), (PROMPT, "Hat", (11,)), (PROMPT, "a", (1, 7, 10)),
        (PROMPT, "photo of sks", (2, 3, 4)), (PROMPT, " wearing  a hat ", (9, 10, 11)),
        # Its tokens are "wo" and "man": the second is no "man".
        ("a woman", "woman", (2, 3)),
        ("a woman, a man", "man", (6,)),
        ("<sks> style", "<sks>", (1, 2, 3)), ("<sks> style", "sks", (2,)), ("[V] style", "[v]", (1, 2, 3)),
        ("STYLE of a dog, style", "style", (1, 6)),
    ],
)  # fmt: skip
def test_a_word_is_all_tokens_that_it_is_cut_into(bundle: Bundle, prompt: str, word: str, positions: tuple[int, ...]) -> None:
    assert token_positions(bundle.family, prompt, word) == positions


def test_rare_and_learnt_words_are_several_tokens(tiny_base: Path) -> None:
    family = load_bundle(tiny_base, device="cpu").family
    # The tiny tokenizer knows "man" but neither "manga" nor "tram": they fall into pieces, and no piece is taken for a word.
    positions = token_positions(family, "a manga of a man, tram", "manga")
    assert len(positions) > 1 and positions[0] == 2
    assert token_positions(family, "a manga of a man, tram", "man") == (positions[-1] + 3,)
    with pytest.raises(InputError, match="is not a word of the prompt"):
        token_positions(family, "a manga and a woman", "man")
    add_tokens(family.tokenizers["text_encoder"], row_names("<sks>", 3), "tokenizer")
    for word, learnt in {"<sks>": (4, 5, 6), "sks": (4, 5, 6), "<SKS> style": (4, 5, 6, 7), "man": (10,)}.items():
        assert token_positions(family, "a photo of <sks> style, a man", word) == learnt


def test_words_that_no_token_stands_for_are_named_before_anything_is_drawn(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.diffusion.attention.capture.draw_pictures", lambda *_: pytest.fail("drawn"))
    for word in ("boat", "ma", "photos", "sks man", "", " "):
        with pytest.raises(InputError) as caught:
            explain_pictures(bundle, [(ask(), ["sks"]), (ask(1), [word])], settings(), 0)
        message = str(caught.value)
        assert repr(word) in message and PROMPT in message and "photo, of, sks, style, man, wearing, hat" in message
        assert caught.value.exit_code == 2
    long = ", ".join(["a dog"] * 12) + ", a hat"
    with pytest.raises(InputError, match=r"cut off before it.*at most 30 tokens.*Shorten"):
        token_positions(bundle.family, long, "hat")
    assert max(token_positions(bundle.family, long, "dog")) <= 30


def test_a_word_of_several_tokens_has_their_sum(either: Bundle) -> None:
    (item,) = explain_pictures(either, [(ask(), ["sks", "style", "sks style", "sks"])], settings(), 0)
    sks, style, both = item.maps
    assert [heat.token for heat in item.maps] == ["sks", "style", "sks style"] and both.positions == (4, 5)
    np.testing.assert_allclose(both.values, sks.values + style.values, atol=1e-7)
    assert both.share == pytest.approx(sks.share + style.share, abs=1e-6) and 0 < sks.share < 1


def test_breadth_is_one_where_even_and_small_where_narrow() -> None:
    assert HeatMap("even", (1,), np.full((4, 4), 0.03, np.float32)).breadth == pytest.approx(1.0)
    single = np.zeros((4, 4), np.float32)
    single[1, 2] = 0.5
    heat = HeatMap("single", (1,), single)
    assert (heat.breadth, heat.share) == pytest.approx((1 / 16, 0.5 / 16))


def test_words_of_a_prompt() -> None:
    assert words_of("a photo of <sks> style, a dog's well-lit hat, A hat") == [
        "a", "photo", "of", "<sks>", "style", "dog's", "well-lit", "hat", "A",
    ]  # fmt: skip
    assert telling_words("A photo of sks style, a man in THE rain") == ["photo", "sks", "style", "man", "rain"]


def test_what_is_mapped_when_nobody_asks() -> None:
    full = "a photo of sks style, a man with a red hat on a horse"
    asked = PromptRequest("a", "people", "a man with a red hat on a horse", full)
    assert words_to_map(asked, ["sks", "ukj", ""]) == ["sks", "style", "man", "red", "hat"]
    assert words_to_map(asked, ["sks"], ["horse", "boat", "red hat"]) == ["sks", "style", "horse", "red hat"]
    plain = PromptRequest("b", "things", "a boat", "a photo of a boat")
    assert words_to_map(plain, ["sks"]) == ["boat"]
