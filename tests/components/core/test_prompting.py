import pytest

from components.core.prompting import fill_template, fill_tokens, names_token, tokens_for

TWO = [{"token": "sks", "categories": ["people", "people in places"]}, {"token": "ukj", "categories": ["backgrounds", "people in places"]}]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(["sks"], "a photo of sks style, {x}"), (["sks", "ukj"], "a photo of sks style, ukj style, {x}"), ([""], "a photo of  style, {x}")],
)
def test_the_word_after_the_token_goes_with_it(tokens: list[str], expected: str) -> None:
    assert fill_template("a photo of {token} style, {prompt}", tokens, "{x}") == expected


def test_without_the_word_tokens_are_a_list() -> None:
    assert fill_tokens("{token} painting of {prompt}", ["sks", "ukj"]) == "sks, ukj painting of {prompt}"
    assert fill_tokens("{token} styles", ["sks", "ukj"]) == "sks, ukj styles"


def test_a_category_asks_for_the_tokens_of_what_it_shows() -> None:
    assert tokens_for(TWO, "people") == ["sks"]
    assert tokens_for(TWO, "backgrounds") == ["ukj"]
    assert tokens_for(TWO, "people in places") == ["sks", "ukj"]
    assert tokens_for(TWO, "unheard of") == ["sks", "ukj"]
    assert tokens_for([{"token": "sks"}], "people") == ["sks"]


def test_a_prompt_that_names_a_token_is_known() -> None:
    assert names_token("a dog in <sks> style", ["<sks>"])
    assert names_token("ukj dog", ["sks", "ukj"])
    assert not names_token("masks and a dog", ["sks"])
    assert not names_token("a dog", [""])
