import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError
from components.core.paths import read_json
from components.styledata.split import split_style_set
from components.styledata.zeroshot import PEOPLE, ImageTextEncoder, character_log_odds, ensemble
from tests.components.styledata.helpers import ColourEncoder, scan, style_folder


def forbidden() -> ImageTextEncoder:
    raise AssertionError("the encoder is not needed")


def coloured(folder: Path, **colours: tuple[int, int, int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, colour in colours.items():
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}.png")
    return folder


def test_metadata_names_the_roles(tmp_path: Path) -> None:
    scan(style_folder(tmp_path / "source", style=4, reference=2), tmp_path / "set")
    out = split_style_set(tmp_path / "set", tmp_path / "split", forbidden)
    split = read_json(out / "split.json")
    assert split["method"] == "metadata"
    assert split["style_ref"][0] == {"path": "style_ref/00.png", "role": "character", "confidence": 1.0, "source": "metadata"}
    assert [row["role"] for row in split["style_ref"]] == ["character", "background"] * 2
    assert split["reference"] == ["reference/00.png", "reference/01.png"] and split["reference_is_style_ref"] is False
    assert split["low_confidence"] == []


def test_folders_name_the_roles_and_metadata_overrules(tmp_path: Path) -> None:
    source = tmp_path / "source"
    coloured(source / "character", a=(1, 2, 3))
    coloured(source / "Backgrounds", b=(3, 2, 1), c=(9, 9, 1))
    (source / "metadata.jsonl").write_text(json.dumps({"file_name": "Backgrounds/c.png", "role": "thing"}) + "\n")
    scan(source, tmp_path / "set")
    split = read_json(split_style_set(tmp_path / "set", tmp_path / "split", forbidden) / "split.json")
    found = [(row["role"], row["source"]) for row in split["style_ref"]]
    assert found == [("background", "folder"), ("thing", "metadata"), ("character", "folder")]
    assert split["method"] == "folder"
    assert split["reference_is_style_ref"] and split["reference"] == [row["path"] for row in split["style_ref"]]


def test_zero_shot_reads_what_nobody_named(tmp_path: Path) -> None:
    source = coloured(tmp_path / "source", man=(250, 20, 0), view=(20, 250, 0), both=(200, 200, 0))
    coloured(source / "character", named=(0, 255, 0))
    scan(source, tmp_path / "set")
    encoder = ColourEncoder()
    split = read_json(split_style_set(tmp_path / "set", tmp_path / "split", lambda: encoder) / "split.json")
    rows = {row["path"]: row for row in split["style_ref"]}
    assert split["method"] == "zero-shot" and encoder.pictures == 3
    assert rows["character/named.png"] == {"path": "character/named.png", "role": "character", "confidence": 1.0, "source": "folder"}
    assert (rows["man.png"]["role"], rows["view.png"]["role"]) == ("character", "background")
    assert rows["man.png"]["confidence"] > 0.99 and rows["view.png"]["source"] == "zero-shot"
    assert split["low_confidence"] == ["both.png"] and 0.5 <= rows["both.png"]["confidence"] < 0.75


def test_a_set_without_usable_pictures(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_text("x")
    scan(source, tmp_path / "set")
    with pytest.raises(InputError, match="no usable StyleRef"):
        split_style_set(tmp_path / "set", tmp_path / "split", forbidden)
    assert not (tmp_path / "split").exists()


class TableEncoder:
    """Texts by first letter, so that log odds can be computed by hand."""

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        raise AssertionError("not asked for")

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if any(who in text for who in PEOPLE) else [0.0, 1.0] for text in texts])


def test_log_odds_by_hand() -> None:
    features = np.array([[1.0, 0.0], [0.6, 0.8], [0.5**0.5, 0.5**0.5]])
    assert character_log_odds(features, TableEncoder()) == pytest.approx([100.0, -20.0, 0.0])
    directions = ensemble([["a man", "a beach"], ["a girl"]], TableEncoder())
    assert directions == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))
