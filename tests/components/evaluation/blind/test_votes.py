import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.errors import InputError
from components.evaluation.blind.votes import Answers, read_answers, read_key, score_votes, wilson


def key(pairs: int = 10, kind: str = "artist", roles: tuple[str, str] = ("artist", "model")) -> dict[str, Any]:
    """The second role lies left in even pairs."""
    rows = [
        {"pair": index, "left": roles[(index + 1) % 2], "right": roles[index % 2], "matched_by": "caption" if index < 4 else "chance"}
        for index in range(pairs)
    ]
    return {"schema": 1, "page": "page-1", "kind": kind, "sources": {"model": {"name": "run"}}, "pairs": rows}


def person(name: str, choices: dict[int, str]) -> Answers:
    return Answers(Path(f"{name}.json"), name, "", choices)


def test_error_rate_by_hand() -> None:
    # Left is the model's in even pairs: 5 of 10 "left" are errors, of the first four 2.
    result = score_votes(key(), [person("ann", dict.fromkeys(range(10), "left"))])
    assert result["rate"]["value"] == 50 and result["rate"]["n"] == 10 and result["people"] == 1 and result["interval"] == "wilson"
    # Wilson, z = 1.959964, p = 0.5, n = 10: (0.5 + z²/20 ± z √(0.025 + z²/400)) / (1 + z²/10).
    assert (result["rate"]["low"], result["rate"]["high"]) == pytest.approx((23.65931, 76.34069), abs=1e-4)
    assert result["by_match"] == {"caption": {"value": 50.0, "n": 4}, "chance": {"value": 50.0, "n": 6}}
    # Not all pairs are answered: 0 and 2 are errors, 1 is right.
    part = score_votes(key(), [person("ann", {0: "left", 1: "left", 2: "left"})])
    assert part["rate"]["value"] == pytest.approx(200 / 3) and part["pairs"] == 3 and part["by_match"]["chance"] == {"value": None, "n": 0}


def test_preference_is_for_the_first() -> None:
    told = key(4, "like", ("a", "b"))
    assert score_votes(told, [person("ann", {0: "right", 1: "left", 2: "left", 3: "left"})])["rate"]["value"] == 75


def test_wilson_at_the_ends() -> None:
    assert wilson(0, 40) == pytest.approx((0, 0.0876216), abs=1e-6) and wilson(40, 40) == pytest.approx((0.9123784, 1), abs=1e-6)


def test_several_people_are_resampled_with_the_pairs_and_agreement_is_no_certainty() -> None:
    rng = np.random.default_rng(0)
    even, odd = ({index: "left" if index % 2 == side else "right" for index in range(40)} for side in (0, 1))
    told = key(40)
    # One person is always wrong and the other always right: 80 answers, but only two people.
    result = score_votes(told, [person("wrong", even), person("right", odd)])
    assert result["rate"]["value"] == 50 and result["interval"] == "bootstrap"
    assert (result["rate"]["low"], result["rate"]["high"]) == (0, 100) and [row["value"] for row in result["by_person"]] == [100, 0]
    # All are always right: nothing to resample, and still no certainty.
    result = score_votes(told, [person("a", odd), person("b", odd)])
    assert result["rate"]["low"] == 0 and result["rate"]["high"] == pytest.approx(100 * wilson(0, 80)[1])
    guesses = [person(f"p{place}", {index: ["left", "right"][rng.integers(2)] for index in range(40)}) for place in range(5)]
    result = score_votes(told, guesses)
    assert result["rate"]["low"] < 50 < result["rate"]["high"] and result["rate"]["high"] - result["rate"]["low"] < 30
    assert score_votes(told, guesses) == result


GOOD = {"page": "page-1", "person": "ann", "answers": [{"pair": 0, "choice": "left"}]}


def write(file: Path, data: Any) -> Path:
    file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a JSON list"),
        ({"page": "page-1"}, "holds no answers"),
        ({**GOOD, "page": "page-2"}, r"answers another page \(page-2\)"),
        ({**GOOD, "answers": []}, "holds no answer yet"),
        ({**GOOD, "answers": [{"pair": 99, "choice": "left"}]}, "answer 1: is about pair 99"),
        ({**GOOD, "answers": [{"pair": 1, "choice": "up"}]}, "answer 1: is {"),
        ({**GOOD, "answers": [{"pair": 1.5, "choice": "left"}]}, "answer 1: is {"),
        ({**GOOD, "answers": ["left"]}, "answer 1: is"),
        ({**GOOD, "answers": GOOD["answers"] * 2}, "answer 2: is the second about pair 0"),
    ],
)
def test_answers_that_are_none(tmp_path: Path, data: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_answers(key(), [write(tmp_path / "a.json", data)])
    assert "a.json" in str(caught.value) and caught.value.expected and "\n" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once_and_one_person_counts_once(tmp_path: Path) -> None:
    ann, twin = (write(tmp_path / name, GOOD) for name in ("ann.json", "twin.json"))
    with pytest.raises(InputError, match=r"twin\.json: is by the same person as .*ann\.json"):
        read_answers(key(), [ann, twin])
    with pytest.raises(InputError) as caught:
        read_answers(key(), [tmp_path / "gone.json", ann, write(tmp_path / "bad.json", "{")])
    assert "gone.json: cannot be read" in str(caught.value) and "bad.json: is not JSON" in str(caught.value)
    bob = write(tmp_path / "bob.json", {**GOOD, "person": "bob", "name": " Bob "})
    assert [answers.name for answers in read_answers(key(), [ann, bob])] == ["", "Bob"]


@pytest.mark.parametrize("broken", [{}, {"kind": "x"}, {"pairs": []}, {"pairs": [{"pair": 0, "left": "a", "right": "b"}]}, {"page": 3}])
def test_a_key_that_is_none(tmp_path: Path, broken: dict[str, Any]) -> None:
    assert read_key(write(tmp_path / "key.json", key()))["page"] == "page-1"
    with pytest.raises(InputError, match="is not the key"):
        read_key(write(tmp_path / "key.json", {**key(), **broken} if broken else {}))
