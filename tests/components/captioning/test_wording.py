"""What is shown stays, what the identifier stands for goes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.captioning.wording import caption_of
from components.core.config.sections import STYLE_WORDS

ANSWERS = {
    # Nothing to leave out.
    "a woman with a red umbrella": "a woman with a red umbrella",
    "A stylish man paints a party in Paris.": "a stylish man paints a party in Paris",
    "Darth Vader; rain - and a crow": "Darth Vader; rain - and a crow",
    # What announces the subject.
    "The image shows a woman with red hair standing on a beach.": "a woman with red hair standing on a beach",
    "a black-and-white photograph of two boys playing football": "two boys playing football",
    "This is a digital painting of a man in a blue coat.": "a man in a blue coat",
    "a drawing of a drawing of a house": "a house",
    "In this image, a woman sits on a bench.": "a woman sits on a bench",
    "There are two dogs running on grass.": "two dogs running on grass",
    # Phrases, clauses and sentences on the style.
    "A watercolor painting of a dog in a garden, in the style of Monet.": "a dog in a garden",
    "A portrait of a man in the style of Vincent van Gogh, wearing a hat": "a portrait of a man, wearing a hat",
    "A castle on a hill, in a bold, graphic cartoon style.": "a castle on a hill",
    "a girl in anime style with red hair": "a girl with red hair",
    "a woman in a garden, watercolor, visible brushstrokes": "a woman in a garden",
    "The painting has a dreamy quality. A ship sails at sea.": "a ship sails at sea",
    "A man walks. The style is impressionistic. He holds a lantern.": "a man walks. He holds a lantern",
    # Words on their own; an article follows the word that it comes to stand before.
    "a stylized owl near a river": "an owl near a river",
    "an old man in an art studio": "an old man in a studio",
    "cartoon dog with a hat": "dog with a hat",
    "a man painting a fence in a garden": "a man in a garden",
    "a low photo poly house": "house",
    # Nothing is left.
    "an illustration": "", "The artwork features bold brushstrokes.": "", "": "", " \n ": "",
    # How models talk.
    '**Caption:** "A boy riding a horse."': "a boy riding a horse",
    "Sure! Here is a description of it: a boy riding a horse": "a boy riding a horse",
    "<think> </think>\nA boy\n\nriding a horse.": "a boy riding a horse",
    "A dog sleeps. In the background there is a": "a dog sleeps",
    "a dog by the sea and a": "a dog by the sea and a",
}  # fmt: skip


@pytest.mark.parametrize(("answer", "caption"), ANSWERS.items())
def test_answers(answer: str, caption: str) -> None:
    assert caption_of(answer, STYLE_WORDS) == caption


def test_the_list_is_the_users() -> None:
    answer = "A watercolor painting of a dog in a bright neon city."
    assert caption_of(answer, ()) == "a watercolor painting of a dog in a bright neon city"
    assert caption_of(answer, ("neon city", "dog")) == "a watercolor painting"
    assert caption_of("black & white c++ [x", ("c++", "[x", "&")) == "black white"


def test_what_the_model_was_made_to_continue_is_no_part_of_it() -> None:
    assert caption_of("A picture of a red hat", (), "a picture of") == "a red hat"


WORDS = st.sampled_from(
    [*STYLE_WORDS, "a", "an", "the", "dog", "in", "of", "with", "painting", "Monet", "is", "shows", "red", "and", ",", "."]
)


@given(st.lists(WORDS, max_size=14))
def test_no_style_word_stays_and_the_rest_is_in_order(words: list[str]) -> None:
    caption = caption_of(" ".join(words), STYLE_WORDS)
    for word in STYLE_WORDS:
        assert not re.search(rf"(?<![\w-]){word}s?(?![\w-])", caption, re.I), caption
    assert caption == " ".join(caption.split()) and not re.search(r"\s,|^,|,$|,,", caption)
    left = iter(re.findall(r"\w+", " ".join(words).lower()))
    # An article may have become the other one.
    assert all(any(word == other or {word, other} == {"a", "an"} for other in left) for word in re.findall(r"\w+", caption.lower()))
