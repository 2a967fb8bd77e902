"""Guidance: each published formula by hand, the same bits for the plain one, and what is evaluated for it."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from components.core.config import PLAIN, GuidanceSection, SamplingSection
from components.core.errors import ConfigError, InputError
from components.diffusion.models.bundle import Bundle, Origin, load_bundle
from components.diffusion.sampling.guidance import Guidance, branch_prompt, branches_of, combination_at
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import draw_pictures, sample_bank

REQUESTS = [
    PromptRequest(f"p{index}", "people", text, f"a photo of sks style, {text}", ("sks",))
    for index, text in enumerate(["a man", "a dog", "a house"])
]
SPLIT = {"style": {"prompt": "a photo of {token} style"}, "class": {"prompt": "a photo of style"}}


def term(scale: float | str, away_from: str, toward: str, **limits: Any) -> dict[str, Any]:
    return {"scale": scale, "away_from": away_from, "toward": toward, **limits}


def formula(*terms: dict[str, Any], start: str = "prompt", **branches: Any) -> GuidanceSection:
    named = {name: branch if isinstance(branch, Mapping) else {"prompt": branch} for name, branch in branches.items()}
    return GuidanceSection.model_validate({"branches": named, "terms": terms, "start": start})


def settings(**options: Any) -> SamplingSection:
    return SamplingSection(**{"steps": 3, "repeats": 1, "batch_size": 4, "guidance": 4.0, "scheduler": "ddim", **options})


def predictions(*names: str) -> dict[str, torch.Tensor]:
    made = torch.randn((len(names), 2, 4, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return dict(zip(names, made, strict=True))


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_classifier_free_guidance() -> None:
    e = predictions("negative", "prompt")
    assert_same(combination_at(PLAIN, 2.5).of(e), e["negative"] + 2.5 * (e["prompt"] - e["negative"]))


def test_split_guidance_and_the_sampler_that_it_is_at_its_ends() -> None:
    e, w = predictions("class", "style", "prompt"), 3.5
    split = formula(term(1.5, "style", "prompt"), term("guidance - 1", "class", "style"), **SPLIT)
    by_hand = e["prompt"] + 1.5 * (e["prompt"] - e["style"]) + (w - 1) * (e["style"] - e["class"])
    assert_same(combination_at(split, w).of(e), by_hand)
    # The same as a chain from the class: n_0 + w_s (n_s − n_0) + w_c (p_s − n_s).
    chain = formula(term("guidance", "class", "style"), term(2.5, "style", "prompt"), start="class", **SPLIT)
    assert_same(combination_at(chain, w).of(e), by_hand)
    # w_s = 1 is plain guidance away from the style's bare prompt, and takes no third forward.
    assert branches_of(chain, 1.0) == branches_of(split, 1.0) == ("style", "prompt")
    assert combination_at(chain, 1.0).of(e).equal(e["style"] + 2.5 * (e["prompt"] - e["style"]))


def test_the_mean_of_a_difference_is_left_out_below_a_log_snr() -> None:
    e = predictions("class", "style", "prompt")
    split = formula(term(1.5, "style", "prompt"), term("guidance - 1", "class", "style", centred_below=-2.0), **SPLIT)
    difference = e["style"] - e["class"]
    centred = difference.clone()
    for picture, channel in itertools.product(range(2), range(4)):
        centred[picture, channel] -= difference[picture, channel].sum() / 9
    rest = e["prompt"] + 1.5 * (e["prompt"] - e["style"])
    assert_same(combination_at(split, 3.0, log_snr=-2.1).of(e), rest + 2.0 * centred)
    assert_same(combination_at(split, 3.0, log_snr=-2.0).of(e), rest + 2.0 * difference)


def test_styledrop_and_dco() -> None:
    e = predictions("base_empty", "base_prompt", "prompt")
    base = {"base_empty": {"prompt": "", "weights": "base"}, "base_prompt": {"prompt": "{full_prompt}", "weights": "base"}}
    dco = formula(term("guidance", "base_empty", "base_prompt"), term(3, "base_prompt", "prompt"), start="base_empty", **base)
    by_hand = e["base_empty"] + 7.5 * (e["base_prompt"] - e["base_empty"]) + 3 * (e["prompt"] - e["base_prompt"])
    assert_same(combination_at(dco, 7.5).of(e), by_hand)
    assert dco.base_branches == ["base_empty", "base_prompt"]
    styledrop = formula(term(2, "base_prompt", "prompt"), term(5, "base_empty", "base_prompt"), **base)
    by_hand = e["prompt"] + 2 * (e["prompt"] - e["base_prompt"]) + 5 * (e["base_prompt"] - e["base_empty"])
    assert_same(combination_at(styledrop, 7.5).of(e), by_hand)


def test_dreamstyler() -> None:
    e, style, content, both = predictions("empty", "no_style", "no_content", "prompt"), 0.5, 3.0, 5.0
    six = formula(
        term(content / 2, "empty", "no_style"), term(style / 2, "no_style", "prompt"), term(style / 2, "empty", "no_content"),
        term(content / 2, "no_content", "prompt"), term("guidance", "empty", "prompt"),
        start="empty", empty="", no_style="a painting of {prompt}", no_content="a painting in the style of {token}",
    )  # fmt: skip
    by_hand = (
        e["empty"]
        + 0.5 * content * (e["no_style"] - e["empty"])
        + 0.5 * style * (e["prompt"] - e["no_style"])
        + 0.5 * style * (e["no_content"] - e["empty"])
        + 0.5 * content * (e["prompt"] - e["no_content"])
        + both * (e["prompt"] - e["empty"])
    )
    assert_same(combination_at(six, both).of(e), by_hand)


def test_dreamartist_leads_away_from_the_negative_rows() -> None:
    e, gamma = predictions("bad", "prompt"), 5.0
    learnt = formula(term("guidance", "bad", "prompt"), start="bad", bad="a photo of {negative} style, {prompt}")
    assert_same(combination_at(learnt, gamma).of(e), e["bad"] + gamma * (e["prompt"] - e["bad"]))
    request = PromptRequest("a", "people", "a man", "a photo of <s> style, a man", ("<s>",), (("<s>", "<s->"),))
    assert branch_prompt("bad", request, settings(guidance_formula=learnt)) == "a photo of <s-> style, a man"
    # As its loss asks in training: the whole prompt, with the negative token in the identifier's place.
    as_trained = formula(term("guidance", "bad", "prompt"), start="bad", bad="{full_negative}")
    assert branch_prompt("bad", request, settings(guidance_formula=as_trained)) == "a photo of <s-> style, a man"


def test_prompts_of_branches() -> None:
    request = PromptRequest("a", "x", "a {prompt} {token}", "a photo of sks style, ukj style, a {prompt} {token}", ("sks", "ukj"))
    given = settings(
        negative_prompt="blurry", guidance_formula=formula(term(1, "one", "prompt"), one="{token} style: {prompt}", two="{full_prompt}!")
    )
    found = {name: branch_prompt(name, request, given) for name in ("prompt", "negative", "one", "two")}
    assert found == {
        "prompt": request.full_prompt, "negative": "blurry", "one": "sks style, ukj style: a {prompt} {token}",
        "two": request.full_prompt + "!",
    }  # fmt: skip
    plain = PromptRequest("a", "x", "a man", "a photo of a man")
    with pytest.raises(ConfigError, match=r"branches\.one\.prompt.*contains \{token\}, but the model has no identifier"):
        branch_prompt("one", plain, given)
    learnt = settings(guidance_formula=formula(term(1, "bad", "prompt"), bad="{negative}"))
    with pytest.raises(ConfigError, match="no negative token"):
        branch_prompt("bad", request, learnt)


def test_terms_apply_at_their_noise_levels_and_steps() -> None:
    limited = formula(
        term(2, "negative", "prompt", log_snr=(-1, 1)), term(3, "style", "prompt", steps=(0.5, 1)), start="prompt", style="x"
    )  # fmt: skip
    branches = {(level, share): combination_at(limited, 1.0, level, share).branches for level in (-1.1, -1.0, 1.0) for share in (0.4, 0.5)}
    assert branches == {
        (-1.1, 0.4): ("prompt",), (-1.1, 0.5): ("style", "prompt"), (-1.0, 0.4): ("negative", "prompt"),
        (-1.0, 0.5): ("negative", "style", "prompt"), (1.0, 0.4): ("prompt",), (1.0, 0.5): ("style", "prompt"),
    }  # fmt: skip
    assert branches_of(limited, 1.0) == ("negative", "style", "prompt")


def drawn(bundle: Bundle, given: SamplingSection, requests: list[PromptRequest] = REQUESTS) -> np.ndarray:
    return np.stack([np.asarray(picture) for _, picture in draw_pictures(bundle, requests, given, 0)])


def test_a_formula_of_the_plain_one_in_other_words_draws_the_same_bits(bundle: Bundle) -> None:
    plain = drawn(bundle, settings(negative_prompt="a photo of style"))
    split = formula(term("guidance", "class", "prompt"), start="class", **SPLIT)
    assert np.array_equal(plain, drawn(bundle, settings(guidance_formula=split)))
    assert np.array_equal(plain, drawn(bundle, settings(negative_prompt="a photo of style", guidance_formula="plain")))
    assert not np.array_equal(plain, drawn(bundle, settings(guidance_formula=formula(term(2, "class", "prompt"), **SPLIT))))


def test_all_branches_of_a_network_go_through_it_at_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Mock(wraps=bundle.family.predict)
    monkeypatch.setattr(bundle.family, "predict", predict)
    three = formula(term(1.5, "style", "prompt"), term(1.5, "class", "style", steps=(0, 0.5)), **SPLIT)
    drawn(bundle, settings(guidance_formula=three, steps=4))
    assert [len(call.args[0]) for call in predict.call_args_list] == [9, 9, 6, 6]
    # The prompt's rows are the last: attention is recorded there.
    last = bundle.family.encode_prompts([REQUESTS[2].full_prompt]).states[0]
    assert all(call.args[2].states[-1].equal(last) for call in predict.call_args_list)


def test_the_bases_weights_are_the_bases(tiny_base: Path, trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, base = load_bundle(trained("single-styleforge"), device="cpu"), load_bundle(tiny_base, device="cpu")
    assert model.frozen.digest == base.digest and base.frozen is base
    branches = {"empty": {"prompt": "", "weights": "base"}, "of_base": {"prompt": "{full_prompt}", "weights": "base"}}
    # Toward the base's own prediction all the way: the picture is the base's.
    away = formula(term(1.0, "prompt", "of_base"), **branches)
    assert np.array_equal(drawn(model, settings(guidance_formula=away)), drawn(base, settings(guidance=1.0)))
    dco = formula(term("guidance", "empty", "of_base"), term(3, "of_base", "prompt"), start="empty", **branches)
    both, plain = drawn(model, settings(guidance_formula=dco)), drawn(model, settings())
    assert not np.array_equal(both, plain)
    # A base is its own base, and everything goes through it at once.
    predict = Mock(wraps=base.family.predict)
    monkeypatch.setattr(base.family, "predict", predict)
    drawn(base, settings(guidance_formula=dco, steps=1))
    assert [len(call.args[0]) for call in predict.call_args_list] == [9]
    model.tuned_from, model.__dict__["frozen"] = Origin("nowhere", None), None
    del model.__dict__["frozen"]
    with pytest.raises(InputError, match="cannot draw without its base nowhere"):
        Guidance(model, settings(guidance_formula=dco))
    model.tuned_from = Origin(str(tiny_base), None, "0" * 64)
    with pytest.raises(InputError, match="which now has"):
        Guidance(model, settings(guidance_formula=dco))


def test_a_picture_says_which_guidance_it_has_where_it_is_not_plain(bundle: Bundle, tmp_path: Path) -> None:
    def about(given: SamplingSection) -> dict[str, Any]:
        out = sample_bank(bundle, REQUESTS[:1], given, 0, tmp_path / "out")
        with Image.open(out / "images" / "p0-r0.png") as picture:
            return dict(json.loads(picture.info["styleforge"]))

    plain = about(settings())
    assert plain == about(settings(guidance_formula="plain")) and "guidance_formula" not in plain
    split = formula(term("guidance", "class", "style"), term(2, "style", "prompt"), start="class", **SPLIT)
    other = about(settings(guidance_formula=split))
    assert other["branch_prompts"] == {"style": "a photo of sks style", "class": "a photo of style"}
    assert GuidanceSection.model_validate(other["guidance_formula"]) == split
    assert about(settings(guidance_formula=split)) == other


def test_bad_formulas_name_the_place() -> None:
    from components.core.config import parse_config

    good: dict[str, Any] = {"branches": SPLIT, "terms": [term(1.5, "style", "prompt", log_snr=[-1, 1])]}
    for changes, message in (
        ({"terms": [term(2, "stile", "prompt")]}, r"guidance_formula\.terms\.0\.away_from: there is no branch 'stile'.*style"),
        ({"start": "x"}, r"guidance_formula\.start: there is no branch 'x'"),
        ({"terms": []}, r"guidance_formula\.terms"),
        ({"terms": [term(2, "style", "prompt", log_snr=[1, -1])]}, r"terms\.0\.log_snr.*must start below its end"),
        ({"terms": [term(2, "style", "prompt", steps=[0.5, 0.5])]}, r"terms\.0\.steps.*must start below its end"),
        ({"terms": [term("guidence", "style", "prompt")]}, r"terms\.0\.scale='guidence'.*`guidance`"),
        ({"terms": [term(float("nan"), "style", "prompt")]}, r"terms\.0\.scale"),
        ({"terms": [term(2, "style", "style")]}, r"terms\.0\.toward"),
        ({"terms": [term(2, "class", "style")], "start": "class"}, r"neither a term nor start uses the branch `prompt`"),
        ({"branches": {"negative": {"prompt": "x"}}}, r"branches\.negative: is always"),
        ({"branches": {"style": {"prompt": "x", "weights": "own"}}}, r"branches\.style\.weights='own'"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config({"style": {"name": "x", "source": "x"}, "sampling": {"guidance_formula": {**good, **changes}}})


def test_a_denoiser_that_guides_by_itself_takes_no_formula(tmp_path: Path) -> None:
    from tests.tiny_bases import tiny_flux_folder

    flux = load_bundle(tiny_flux_folder(tmp_path / "dev"), device="cpu")
    Guidance(flux, settings(scheduler=None, guidance_formula="plain"))
    with pytest.raises(ConfigError, match=r"FLUX.*take guidance as an input"):
        Guidance(flux, settings(scheduler=None, guidance_formula=formula(term(2, "class", "prompt"), **SPLIT)))


@pytest.mark.parametrize("scheduler", ["euler", "dpm++"])
def test_noise_levels_are_those_of_the_samplers_steps(bundle: Bundle, scheduler: str) -> None:
    seen = []
    limited = formula(term(2, "negative", "prompt", log_snr=(None, 0.0)))
    given = settings(guidance_formula=limited, scheduler=scheduler, steps=5)
    guidance, steps = Guidance(bundle, given), bundle.family.objective.sampler(scheduler, 5, 16).timesteps
    for step, timestep in enumerate(steps):
        seen.append(guidance._at(timestep, step / 5).branches)
    alpha = bundle.family.objective.schedule.alphas_cumprod  # type: ignore[attr-defined]
    noisy = [float(alpha[round(float(timestep))]) < 0.5 for timestep in steps]
    assert seen == [("negative", "prompt") if each else ("prompt",) for each in noisy] and 0 < sum(noisy) < 5


def test_parts_that_take_turns_draw_the_same(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    split = formula(term("guidance", "class", "style"), term(2, "style", "prompt"), start="class", **SPLIT)
    together = drawn(bundle, settings(guidance_formula=split))
    monkeypatch.setattr(bundle.family, "take_turns", True)
    read = Mock(wraps=bundle.family.encode_tokens)
    monkeypatch.setattr(bundle.family, "encode_tokens", read)
    assert np.array_equal(drawn(bundle, settings(guidance_formula=split)), together)
    # Every prompt is read once, before the denoiser comes.
    assert read.call_count == 2 + len(REQUESTS)
