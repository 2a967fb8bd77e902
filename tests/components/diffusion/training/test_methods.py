from typing import Any, get_args

import pytest

from components.core.config import LoraSection, MethodName, MethodSection, parse_config
from components.core.errors import ConfigError
from components.diffusion.training.method_table import METHODS
from components.diffusion.training.methods import fill_prompt, method_for, with_method
from components.diffusion.training.recipe import Recipe


def test_tokens_and_prompts_of_one_concept() -> None:
    method = method_for(MethodSection(identifier="ukj", prior_weight=0.5, train_text_encoder=False))
    assert (method.tokens, method.concepts[0].prompt) == (("ukj",), "a photo of ukj style")
    assert (method.concepts[0].aux_prompt, method.prior_weight) == ("a photo of style", 0.5)
    assert method.trains == {"denoiser"}
    assert "text_encoder.low-rank" in method_for(MethodSection(name="lora", train_text_encoder=True)).trains
    # A learnt token is written so that it is no word.
    method = method_for(MethodSection(name="textual-inversion", identifier="ukj", vectors=3))
    assert method.tokens == method.recipe.tokens == ("<ukj>",) and method.concepts[0].prompt == "a photo of <ukj> style"
    assert (method.recipe.vectors, method.recipe.initial_word) == (3, "painting")
    assert method_for(MethodSection(name="custom-diffusion", identifier="<v>")).tokens == ("<v>",)


@pytest.mark.parametrize(
    ("name", "trains", "preserves", "rate", "save"),
    [
        ("dreambooth", {"denoiser", "text_encoder"}, "generated", 5e-6, "full"),
        ("textual-inversion", {"tokens"}, "none", 5e-4, "delta"),
        ("lora", {"denoiser.low-rank"}, "none", 1e-4, "delta"),
        ("custom-diffusion", {"denoiser.cross-attention", "tokens"}, "generated", 1e-5, "delta"),
        ("svdiff", {"denoiser.spectral", "text_encoder.spectral"}, "generated", 1e-3, "delta"),
        ("dreamartist", {"tokens"}, "none", 2.5e-3, "delta"),
        ("dreamartist-lora", {"denoiser.low-rank", "tokens"}, "none", 1e-4, "delta"),
        ("dreamstyler", {"tokens"}, "none", 2e-3, "delta"),
        ("stylealigned", set(), "none", 0.0, "delta"),
        ("single-styleforge", {"denoiser", "text_encoder"}, "curated", 5e-6, "full"),
        ("multi-styleforge", {"denoiser", "text_encoder"}, "curated", 5e-6, "full"),
        ("split-styleforge", {"denoiser", "text_encoder"}, "curated", 5e-6, "full"),
    ],
)
def test_the_methods(name: str, trains: set[str], preserves: str, rate: float, save: str) -> None:
    method = method_for(MethodSection(name=name))  # type: ignore[arg-type]
    assert (method.trains, method.preserves, method.learning_rate, method.save) == (trains, preserves, rate, save)
    assert set(METHODS) == set(get_args(MethodName))


def test_styledrop_binds_words_for_the_style_and_draws_beside_the_base() -> None:
    run = parse_config({"style": {"name": "pixel-art", "source": "x"}, "method": {"name": "styledrop"}})
    method = method_for(run.method)
    assert method.tokens == ("pixel art",) and method.concepts[0].prompt == "a photo of pixel art style"
    assert (method.recipe.rank, method.learning_rate, method.preserves, method.save) == (64, 5e-5, "none", "delta")
    given = parse_config({"style": {"name": "s", "source": "x"}, "method": {"name": "styledrop", "descriptor": " watercolor painting "}})
    assert method_for(given.method).tokens == ("watercolor painting",)
    assert method_for(MethodSection(name="styledrop", lora=LoraSection(rank=8))).recipe.rank == 8
    assert method_for(MethodSection(name="lora")).recipe.as_json()["lora"]["rank"] == 4
    # e₀(∅) + w (e₀(c) − e₀(∅)) + 3 (e(c) − e₀(c)).
    assert method.guidance is not None
    values = {"nothing": 1.0, "base": 10.0, "prompt": 100.0}
    found = values[method.guidance.start] + sum(
        method.guidance.length(term, 7.5) * (values[term.toward] - values[term.away_from]) for term in method.guidance.terms
    )
    assert found == 1 + 7.5 * (10 - 1) + 3 * (100 - 10)
    assert method.guidance.base_branches == ["nothing", "base"]


@pytest.mark.parametrize("descriptor", ["", "  "])
def test_an_empty_descriptor_is_refused_by_name(descriptor: str) -> None:
    with pytest.raises(ConfigError, match=r"method\.descriptor") as caught:
        parse_config({"style": {"name": "s", "source": "x"}, "method": {"name": "styledrop", "descriptor": descriptor}})
    assert caught.value.exit_code == 2


def test_specialist_diffusion_names_what_was_done_and_trains_at_the_samplers_times() -> None:
    method = method_for(MethodSection(name="specialist-diffusion"))
    assert method.trains == {"denoiser"} and (method.learning_rate, method.save) == (1e-5, "full")
    concept = method.concepts[0]
    prompts = (concept.prompt, *concept.more_prompts)
    assert len(prompts) == 5 and all("sks" in prompt and "{caption}" in prompt for prompt in prompts)
    # Without a caption, too, each is a prompt.
    assert all(fill_prompt(prompt, None).strip(" ,") and "  " not in fill_prompt(prompt, None) for prompt in prompts)
    assert len(method.transforms) == 8 and method.grid == 100
    own = method_for(MethodSection(name="specialist-diffusion", instance_prompts=("{token}",)))
    assert (own.concepts[0].prompt, own.concepts[0].more_prompts) == ("sks", ())


STYLE = {"name": "x", "source": "x"}


def test_the_style_has_a_scale_of_its_own_only_where_the_formula_has_one() -> None:
    config, method = with_method(
        parse_config({"style": STYLE, "method": {"name": "split-styleforge"}, "sampling": {"style_guidance": 1.2}})
    )
    formula = config.sampling.guidance_formula
    assert formula is not None and formula.splits and config.sampling.style_guidance is None
    assert [formula.length(term, 2.5) for term in formula.terms] == pytest.approx([1.5, 0.2])
    assert method.guidance is not None and method.guidance.style_guidance == 1.75
    chosen = config.sampling.guided_by(4.0, 1.5)
    assert chosen.guidance == 4.0 and chosen.guidance_formula is not None and chosen.guidance_formula.style_guidance == 1.5
    with pytest.raises(ConfigError, match=r"sampling\.style_guidance=1\.2: the guidance of this method has no separate style scale"):
        with_method(parse_config({"style": STYLE, "sampling": {"style_guidance": 1.2}}))


def test_passes_count_what_losses_make_besides() -> None:
    def passes(**settings: Any) -> int:
        return method_for(MethodSection(**settings)).forwards(2, 1)

    assert [passes(), passes(loss="guided"), passes(loss="dco"), passes(loss="calibrated")] == [9, 15, 11, 11]
    assert passes(prior="distilled") == 2 * 3 + 3 * 4


def test_multi_styleforge_binds_a_token_to_each_component() -> None:
    people, places = method_for(MethodSection(name="multi-styleforge")).concepts
    assert (people.token, places.token) == ("sks", "ukj")
    assert (people.roles, places.roles) == ({"character"}, {"background", "thing"})
    assert people.categories == {"people", "people in places"}
    assert places.categories == {"backgrounds", "people in places", "things"}
    assert people.own_aux and places.own_aux


def test_any_number_of_components_may_be_declared() -> None:
    sections = [
        {"identifier": "aaa", "roles": ["character"], "instance_prompt": "{token} people, {caption}", "aux_count": 5},
        {"identifier": "bbb", "roles": ["background"], "aux_prompt": "a place", "aux_form": "watercolor"},
        {"identifier": "ccc", "roles": ["thing"], "categories": ["cars"]},
    ]
    method = method_for(MethodSection(name="multi-styleforge", concepts=sections))  # type: ignore[arg-type]
    assert method.tokens == ("aaa", "bbb", "ccc")
    assert [concept.prompt for concept in method.concepts][:2] == ["aaa people, {caption}", "a photo of bbb style"]
    assert (method.concepts[1].aux_prompt, method.concepts[1].aux_form) == ("a place", "watercolor")
    assert method.concepts[2].categories == {"cars"}
    assert Recipe.from_json(method.recipe.as_json()) == method.recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "textual-inversion", "descriptor": "oil"}, r"method\.descriptor: textual-inversion learns a token of its own"),
        ({"name": "multi-styleforge", "descriptor": "oil"}, r"method\.descriptor: multi-styleforge binds several"),
        ({"name": "textual-inversion", "train_text_encoder": True}, r"method\.train_text_encoder: textual-inversion never trains"),
        ({"name": "stylealigned", "stages": 6}, r"method\.stages=6: stylealigned trains nothing"),
        ({"name": "lora", "concepts": [{"identifier": "a", "roles": ["thing"]}]}, r"method\.concepts: lora binds one token"),
        (
            {"name": "multi-styleforge", "concepts": [{"identifier": "a", "roles": ["thing"]}] * 2},
            r"method\.concepts: two components share an identifier",
        ),
        ({"name": "multi-styleforge", "style_ref": "people"}, r"method\.style_ref: people leaves no image for the token 'ukj'"),
        (
            {"name": "multi-styleforge", "concepts": [{"identifier": "a", "roles": ["thing"], "instance_prompt": "x"}]},
            r"instance_prompt.*has no place for the identifier",
        ),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        method_for(MethodSection(**settings))


@pytest.mark.parametrize(
    ("template", "caption", "expected"),
    [
        ("a photo of sks style", "a man", "a photo of sks style"),
        ("a photo of sks style, {caption}", " a man ", "a photo of sks style, a man"),
        ("a photo of sks style, {caption}", None, "a photo of sks style"),
        ("{caption}, sks style", "", "sks style"),
        ("a {caption} in sks style", None, "a in sks style"),
    ],
)
def test_captions_go_in_and_leave_no_trace_where_missing(template: str, caption: str | None, expected: str) -> None:
    assert fill_prompt(template, caption) == expected


def test_recipes_of_earlier_models_are_read() -> None:
    lora = {"rank": 4, "alpha": None, "targets": ["to_q"], "text_encoder_targets": ["q_proj"], "dora": False}
    saved = {"trains": ["text_encoder", "unet", "unet.low-rank"], "tokens": [], "vectors": 1, "initial_word": None, "lora": lora}
    assert Recipe.from_json(saved).trains == {"text_encoder", "denoiser", "denoiser.low-rank"}
