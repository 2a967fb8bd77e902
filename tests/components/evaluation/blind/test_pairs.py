from pathlib import Path

import pytest

from components.core.errors import InputError
from components.evaluation.blind.pairs import Candidate, match_artist, match_models, matches, role_of_category


def drawn(text: str, role: str | None = None, number: int = 0) -> Candidate:
    return Candidate(Path(f"{text}-{number}.png"), text, role, prompt_id=text, number=number)


def test_concept_before_caption_before_role_before_chance() -> None:
    artist = [
        Candidate(Path("a"), "something red", "thing", concept="house"),
        Candidate(Path("b"), "a man with a hat", "character"),
        Candidate(Path("c"), "", "background"),
        Candidate(Path("d")),
    ]
    ours = [drawn("a man with a big hat", "character"), drawn("the house"), drawn("fog", "background"), drawn("a cup", "thing")]
    found = {pair.first.path.name: (pair.second.text, pair.matched_by) for pair in match_artist(artist, ours, 9, seed=0)}
    assert found == {
        "a": ("the house", "concept"), "b": ("a man with a big hat", "caption"), "c": ("fog", "role"), "d": ("a cup", "chance"),
    }  # fmt: skip
    # The best matches come first, and no image is in two pairs.
    assert [pair.matched_by for pair in match_artist(artist, ours, 2, seed=0)] == ["concept", "caption"]
    assert matches(match_artist(artist, ours, 9, seed=0)) == {"concept": 1, "caption": 1, "role": 1, "chance": 1}


def test_one_image_a_prompt_and_ties_go_by_seed() -> None:
    ours = [drawn(f"p{index}", number=number) for index in range(6) for number in (1, 0)]
    artist = [Candidate(Path(f"{index}")) for index in range(6)]
    found = match_artist(artist, ours, 40, seed=0)
    assert len(found) == 6 and {pair.second.number for pair in found} == {0}
    assert found == match_artist(artist, ours, 40, seed=0) != match_artist(artist, ours, 40, seed=1)


def test_models_are_paired_by_prompt() -> None:
    first = [drawn(f"p{index}", number=number) for index in range(5) for number in (0, 1)]
    second = [drawn(f"p{index}", number=number) for index in range(3, 9) for number in (0, 1)]
    found = match_models(first, second, 3, seed=0)
    assert all((pair.first.text, pair.first.number) == (pair.second.text, pair.second.number) for pair in found)
    # Both shared prompts come before either comes again.
    assert [pair.first.number for pair in found] == [0, 0, 1] and {pair.first.text for pair in found} == {"p3", "p4"}
    with pytest.raises(InputError, match="no prompt in common"):
        match_models(first, [drawn("other")], 3, seed=0)


def test_roles_of_a_banks_categories() -> None:
    assert [role_of_category(name) for name in ("people in places", "backgrounds", "things", "x")] == [
        "character",
        "background",
        "thing",
        None,
    ]
