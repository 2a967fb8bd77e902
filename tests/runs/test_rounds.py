"""A second round: picks become a style set that trains like any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.core.config import AuxSection, StyleSection
from components.core.errors import InputError
from components.core.paths import write_jsonl
from components.styledata.manifest import scan_style
from runs.rounds import RoundOptions, next_round


def save(file: Path, tint: tuple[int, int, int], seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 60, (64, 64, 3)) + np.array(tint)
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(file)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A style set of six red pictures, and drawings of three prompts: each once red and twice gray."""
    rows: list[dict[str, Any]] = []
    for split, count in (("style_ref", 6), ("aux_pool", 2), ("reference", 2)):
        for number in range(count):
            save(tmp_path / "set" / split / f"{number}.png", (190, 10, 10), 100 * len(split) + number)
            rows.append({"file_name": f"{split}/{number}.png", "text": f"a house {number}", "role": "thing", "license": "CC0-1.0"})
    write_jsonl(tmp_path / "set" / "metadata.jsonl", rows)
    drawn = []
    for prompt in ("a man", "a dog", "a cat"):
        for repeat in range(3):
            name = f"{prompt[2:]}-r{repeat}.png"
            save(
                tmp_path / "drawn" / "images" / name, (190, 10, 10) if repeat == 1 else (90 + 30 * repeat, 95, 95), 7 * repeat + len(drawn)
            )
            drawn.append({"file_name": f"images/{name}", "prompt_id": prompt[2:], "category": "sample", "prompt": prompt, "repeat": repeat})
    write_jsonl(tmp_path / "drawn" / "metadata.jsonl", drawn)
    return tmp_path


def options(place: Path, **changes: Any) -> RoundOptions:
    return RoundOptions([place / "drawn"], place / "set", place / "next", **changes)


def test_a_persons_picks_join_the_set(place: Path) -> None:
    (place / "picks.txt").write_text("# the best\nimages/dog-r0.png\ncat-r2.png\n\ndog-r0.png\n")
    found = next_round(options(place, picks=place / "picks.txt"))
    assert found["style_ref"] == 8 and [Path(file).name for file in found["picked"]] == ["dog-r0.png", "cat-r2.png"]
    style = StyleSection(name="x", source=str(place / "next"))
    manifest = scan_style(style, AuxSection(source="curated"), place / "scanned", rights=True)
    assert {name: len(manifest.usable(name)) for name in ("style_ref", "aux_pool", "reference")} == {
        "style_ref": 8, "aux_pool": 2, "reference": 2,
    }  # fmt: skip
    entries = {entry.path: entry for entry in manifest.entries}
    pick, first = entries["style_ref/picks/000.png"], entries["style_ref/0.png"]
    assert pick.caption == "a dog" and not pick.rights
    assert (first.caption, first.role, first.rights) == ("a house 0", "thing", {"license": "CC0-1.0"})
    assert pick.file(place / "scanned").read_bytes() == (place / "drawn" / "images" / "dog-r0.png").read_bytes()


def test_a_machine_picks_what_is_in_the_style_once_a_prompt(place: Path) -> None:
    found = next_round(options(place, count=2, extractor="colours", alone=True))
    assert found["style_ref"] == 2 and all(file.endswith("-r1.png") for file in found["picked"])
    assert sorted(path.name for path in (place / "next" / "style_ref").rglob("*.png")) == ["000.png", "001.png"]


def test_copies_are_not_picked(place: Path) -> None:
    (place / "drawn" / "images" / "man-r1.png").write_bytes((place / "set" / "style_ref" / "0.png").read_bytes())
    found = next_round(options(place, count=3, extractor="colours"))
    assert not any(file.endswith("man-r1.png") for file in found["picked"]) and len(found["picked"]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"either --picks FILE \(a person's\) or --count N"),
        ({"picks": "picks.txt", "count": 2}, r"either --picks FILE \(a person's\) or --count N"),
        ({"picks": "none.txt"}, r"none\.txt: cannot be read"),
        ({"picks": "empty.txt"}, r"empty\.txt: picks nothing"),
        ({"picks": "picks.txt"}, r"picks\.txt: bird-r0\.png: is not an image of this round.*picks\.txt: fish\.png"),
    ],
)
def test_bad_picks(place: Path, changes: dict[str, Any], message: str) -> None:
    (place / "picks.txt").write_text("bird-r0.png\ncat-r2.png\nfish.png\n")
    (place / "empty.txt").write_text("# none\n\n")
    changes = {key: place / value if key == "picks" else value for key, value in changes.items()}
    with pytest.raises(InputError, match=f"(?s){message}"):
        next_round(options(place, **changes))
    assert not (place / "next").exists()


def test_nothing_is_left_out_in_silence(place: Path) -> None:
    (place / "set" / "style_ref" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"style_ref/0\.png"):
        next_round(options(place, count=1))
    (place / "picks.txt").write_text("cat-r2.png")
    save(place / "set" / "style_ref" / "0.png", (190, 10, 10), 1)
    twice = RoundOptions([place / "drawn", place / "drawn"], place / "set", place / "next", picks=place / "picks.txt")
    with pytest.raises(InputError, match=r"cat-r2\.png: is in two of the folders"):
        next_round(twice)
    assert not (place / "next").exists()


def test_nothing_is_overwritten(place: Path) -> None:
    (place / "next").mkdir()
    with pytest.raises(InputError, match="already exists"):
        next_round(options(place, count=1))
