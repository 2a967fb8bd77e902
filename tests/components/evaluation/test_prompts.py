import re
from collections import Counter
from pathlib import Path

import pytest

from components.core.errors import InputError
from components.evaluation.prompts import CATEGORIES, Prompt, load_bank, shared_prompts


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_builtin_bank_has_1562_unique_clean_prompts_without_a_style_in_four_even_categories() -> None:
    bank, styles = (
        load_bank("builtin"),
        re.compile(r"\b(anime|cubis[mt]|pixel|oil painting|watercolor|photo of|in the style of|4k|trending)\b", re.I),
    )
    assert len(bank) == len({prompt.id for prompt in bank}) == len({prompt.text.lower() for prompt in bank}) == 1562
    counts = Counter(prompt.category for prompt in bank)
    assert set(counts) == set(CATEGORIES) and max(counts.values()) - min(counts.values()) <= 1
    assert Counter(prompt.category for prompt in load_bank("builtin", limit=40)) == dict.fromkeys(CATEGORIES, 10)
    assert Counter(prompt.category for prompt in load_bank("pocket")) == dict.fromkeys(CATEGORIES, 16)
    for prompt in bank:
        assert prompt.text == " ".join(prompt.text.split()) and prompt.text.isascii()
        assert len(prompt.text.split()) <= 20 and not prompt.text.endswith(".") and not styles.search(prompt.text), prompt.text


@pytest.mark.parametrize(
    ("name", "text", "prompts"),
    [
        ("mine.txt", "# mine\na red car\n\n  a   blue dog  \n", [("a red car", "other"), ("a blue dog", "other")]),
        # As PartiPrompts is published.
        ("a.tsv", 'Prompt\tCategory\tChallenge\tNote\na crow, perched\tAnimals\tBasic\t\n"a ""red"" car"\tVehicles\tBasic\tx\n',
         [("a crow, perched", "Animals"), ('a "red" car', "Vehicles")]),
        ("mine.csv", '\ufeffid,text,category\nx-1,"a cat, asleep",pets\n', [("a cat, asleep", "pets")]),
        ("mine.jsonl", '{"prompt": "a cat", "id": 7}\n{"Text": "a dog", "Category": "pets"}\n"a bird"\n',
         [("a cat", "other"), ("a dog", "pets"), ("a bird", "other")]),
        # Characters that look like line ends.
        ("a.jsonl", '{"id": "a", "prompt": "one\u2028two", "category": "people"}\n', [("one two", "people")]),
    ],
)  # fmt: skip
def test_files(tmp_path: Path, name: str, text: str, prompts: list[tuple[str, str]]) -> None:
    bank = load_bank(write(tmp_path, name, text))
    assert [(prompt.text, prompt.category) for prompt in bank] == prompts
    assert bank[0].id == {"mine.csv": "x-1", "mine.jsonl": "7", "a.jsonl": "a"}.get(name, bank[0].id)


def test_ids_from_text_survive_an_inserted_line_and_differ_for_the_same_text(tmp_path: Path) -> None:
    before = load_bank(write(tmp_path, "a.txt", "a cat\na dog\na cat\n"))
    after = load_bank(write(tmp_path, "b.txt", "a new one\na cat\na dog\na cat\n"))
    assert before == after[1:] and before[0].text == before[2].text and before[0].id != before[2].id


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("a.csv", "id,prompt\nx,a cat\ny,a dog\nx,a bird\n", 4, "already used on line 2"),
        ("a.jsonl", '{"id": "x", "prompt": "a"}\n{"id": "x", "prompt": "b"}\n', 2, "already used on line 1"),
        ("a.tsv", "name\tkind\na cat\tpets\n", 1, "column 'prompt' is missing"),
        ("a.csv", "id,prompt\nx,\n", 2, "the prompt is empty"),
        ("a.csv", "id,prompt\n../x,a cat\n", 2, "cannot be part of a file name"),
        ("a.csv", "id,prompt\nx,a cat, asleep\n", 2, "3 fields under 2 columns"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', 2, "not JSON"),
        ("a.jsonl", '{"name": "a"}\n', 1, "key 'prompt' is missing"),
        ("a.jsonl", "[1]\n", 1, "a list"),
    ],
)
def test_bad_banks_name_file_and_line(tmp_path: Path, name: str, text: str, line: int, words: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(InputError) as caught:
        load_bank(path)
    assert str(caught.value).startswith(f"{path}:{line}:") and words in str(caught.value)
    assert caught.value.exit_code == 2


def test_unknown_and_empty_banks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such prompt bank"):
        load_bank("bulitin")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    for name, text, message in (
        ("a.docx", "x", r"cannot be a \.docx"), ("b.txt", None, "not UTF-8"), ("c.txt", "", "bank is empty"),
        ("c.txt", "# only a comment\n", "bank is empty"), ("c.csv", "prompt\n", "bank is empty"), ("c.jsonl", "\n", "bank is empty"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            load_bank(tmp_path / name if text is None else write(tmp_path, name, text))


@pytest.mark.parametrize(
    ("selection", "scoring"), [("builtin-selection", "builtin"), ("pocket-selection", "pocket"), ("art-selection", "art")]
)
def test_banks_to_select_by_share_no_prompt_with_those_to_score_by(selection: str, scoring: str) -> None:
    prompts = load_bank(selection)
    assert len(prompts) == 64 and len({prompt.text for prompt in prompts}) == 64
    assert shared_prompts(prompts, load_bank(scoring)) == []
    assert not {prompt.id for prompt in prompts} & {prompt.id for prompt in load_bank(scoring)}
    counts = Counter(prompt.category for prompt in load_bank(selection, limit=40))
    # Pictograms show nobody in a place, and so twice as many things.
    art = {"people": 10, "backgrounds": 10, "things": 20}
    assert counts == (art if selection == "art-selection" else dict.fromkeys(CATEGORIES, 10))


def test_case_and_punctuation_make_no_other_prompt() -> None:
    first, second = [Prompt("1", "A red car,  parked"), Prompt("2", "a dog")], [Prompt("3", "a red car parked.")]
    assert shared_prompts(first, second) == ["A red car,  parked"]
