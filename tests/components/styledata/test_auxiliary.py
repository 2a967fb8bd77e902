from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.core.content import digest_folder
from components.core.errors import InputError
from components.core.paths import read_json, read_jsonl
from components.styledata.auxiliary import copy_target, curate, join, no_aux, pack_generated, pick_diverse
from tests.components.styledata.helpers import ColourEncoder, picture, scan, style_folder


def pool_of(root: Path, **colours: tuple[int, int, int]) -> Path:
    source = style_folder(root, style=3)
    (source / "aux_pool").mkdir()
    for name, colour in colours.items():
        Image.new("RGB", (8, 8), colour).save(source / f"aux_pool/{name}.png")
    return source


def curated(tmp_path: Path, source: Path, count: int, **options: Any) -> tuple[Path, list[str]]:
    scan(source, tmp_path / "set", aux="curated")
    out = curate(tmp_path / "set", tmp_path / "aux", count=count, form="digital painting", encoder=ColourEncoder, **options)
    return out, [row["origin"] for row in read_jsonl(out / "metadata.jsonl")]


def test_curation_prefers_people_in_the_wanted_form_or_those_of_the_roles(tmp_path: Path) -> None:
    people = {"painted_man": (250, 10, 250), "painted_woman": (220, 40, 230), "plain_man": (250, 10, 0)}
    source = pool_of(tmp_path / "source", **people, view=(10, 250, 0), painted_view=(10, 250, 250), painted_hills=(30, 240, 230))
    out, origins = curated(tmp_path, source, 2)
    assert sorted(origins) == ["aux_pool/painted_man.png", "aux_pool/painted_woman.png"]
    about, first = read_json(out / "aux.json"), digest_folder(out)
    assert (about["source"], about["count"], about["requested"], about["pool"], about["form"]) == ("curated", 2, 2, 6, "digital painting")
    assert [row["origin"] for row in about["scores"]] == origins and len(about["digest"]) == 64
    assert digest_folder(curated(tmp_path, source, 2)[0]) == first
    # Without known roles the ranking alone decides: red is a person, green scenery.
    _, origins = curated(tmp_path, source, 2, roles=["background", "thing"])
    assert sorted(origins) == ["aux_pool/painted_hills.png", "aux_pool/painted_view.png"]


def test_the_set_is_rgb_png_with_rows_in_the_imagefolder_convention(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=3, pool=4)
    picture(50).convert("RGBA").save(source / "aux_pool/alpha.png")
    out, origins = curated(tmp_path, source, 10)
    rows = read_jsonl(out / "metadata.jsonl")
    assert len(rows) == 5 and set(rows[0]) == {"file_name", "text", "prompt", "source", "origin"}
    assert {row["text"] for row in rows} == {"scene 0", "scene 1", "scene 2", "scene 3", None}
    for row in rows:
        with Image.open(out / row["file_name"]) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
    assert sorted(path.name for path in (out / "images").iterdir()) == [Path(row["file_name"]).name for row in rows]
    assert sorted(origins) == [f"aux_pool/{name}.png" for name in ("00", "01", "02", "03", "alpha")]


def test_copies_are_left_out(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=3, pool=3, reference=2)
    for target, origin in (("twin", "aux_pool/00.png"), ("style", "style_ref/00.png"), ("held_out", "reference/00.png")):
        (source / f"aux_pool/{target}.png").write_bytes((source / origin).read_bytes())
    assert sorted(curated(tmp_path, source, 20)[1]) == ["aux_pool/00.png", "aux_pool/01.png", "aux_pool/02.png"]


def test_an_unusable_pool(tmp_path: Path) -> None:
    source = pool_of(tmp_path / "source")
    (source / "aux_pool/words.png").write_text("x")
    with pytest.raises(InputError, match=r"aux\.pool: holds no usable image"):
        curated(tmp_path, source, 5)
    assert not (tmp_path / "aux").exists()


def test_target_and_none(tmp_path: Path) -> None:
    scan(style_folder(tmp_path / "source", style=3), tmp_path / "set")
    target = copy_target(tmp_path / "set", tmp_path / "target")
    assert [row["origin"] for row in read_jsonl(target / "metadata.jsonl")] == [f"style_ref/0{index}.png" for index in range(3)]
    assert read_json(target / "aux.json")["source"] == "target"
    none = no_aux(tmp_path / "none")
    assert read_jsonl(none / "metadata.jsonl") == [] and read_json(none / "aux.json")["count"] == 0


@pytest.mark.parametrize("sub", ["", "images"])
def test_generated_pictures_are_packed_with_their_prompt(tmp_path: Path, sub: str) -> None:
    folder = tmp_path / "drawn" / sub
    folder.mkdir(parents=True)
    for index in range(3):
        picture(index).save(folder / f"{index}.png")
    picture(3).convert("RGBA").save(folder / "3.png")
    out = pack_generated(tmp_path / "drawn", tmp_path / "aux", "a photo of style")
    rows = read_jsonl(out / "metadata.jsonl")
    assert [row["origin"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert {(row["prompt"], row["source"]) for row in rows} == {("a photo of style", "generated")}
    assert np.array_equal(np.asarray(Image.open(out / rows[1]["file_name"])), np.asarray(picture(1)))
    assert all(Image.open(out / row["file_name"]).mode == "RGB" for row in rows)


def test_packing_nothing_or_a_damaged_picture(tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    with pytest.raises(InputError, match="no class images"):
        pack_generated(tmp_path / "drawn", tmp_path / "aux", "a photo of style")
    (tmp_path / "drawn/a.png").write_bytes(b"half")
    with pytest.raises(InputError, match=r"a\.png"):
        pack_generated(tmp_path / "drawn", tmp_path / "aux", "a photo of style")
    assert not (tmp_path / "aux").exists()


def test_marginal_relevance_by_hand() -> None:
    # Two equal best items and one far away: the copy gives way to the spread, unless only relevance counts.
    features = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.1]])
    relevance = np.array([1.0, 0.9, 0.5, 0.0])
    assert pick_diverse(relevance, features, 2, weight=0.5) == [0, 2]
    assert pick_diverse(relevance, features, 4, weight=1.0) == [0, 1, 2, 3]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=25), st.integers(1, 30), st.floats(0, 1), st.integers(0, 99))
def test_picking_laws(values: list[float], count: int, weight: float, seed: int) -> None:
    relevance = np.array(values)
    features = np.random.default_rng(seed).normal(size=(len(values), 6))
    picked = pick_diverse(relevance, features, count, weight)
    assert len(picked) == len(set(picked)) == min(count, len(values))
    assert np.isclose(relevance[picked[0]], relevance.max(), atol=1e-12)
    fewer = pick_diverse(relevance, features, max(1, count - 1), weight)
    assert fewer == picked[: len(fewer)]


def test_pictures_known_to_have_another_role_are_left_out(tmp_path: Path) -> None:
    source = style_folder(tmp_path / "source", style=4, pool=6)
    assert sorted(curated(tmp_path, source, 9, roles=["character"])[1]) == [f"aux_pool/0{index}.png" for index in (0, 2, 4)]
    target = copy_target(tmp_path / "set", tmp_path / "target", roles=["background"])
    assert [row["origin"] for row in read_jsonl(target / "metadata.jsonl")] == ["style_ref/01.png", "style_ref/03.png"]
    with pytest.raises(InputError, match="no usable image of a thing"):
        curated(tmp_path, source, 9, roles=["thing"])
    with pytest.raises(InputError, match="known to show a thing"):
        copy_target(tmp_path / "set", tmp_path / "none", roles=["thing"])


def test_the_sets_of_several_concepts_are_joined(tmp_path: Path) -> None:
    scan(style_folder(tmp_path / "source", style=4), tmp_path / "set")
    parts = [
        (token, copy_target(tmp_path / "set", tmp_path / token, roles=[role]))
        for token, role in (("sks", "character"), ("ukj", "background"))
    ]
    rows = read_jsonl(join(parts, tmp_path / "aux") / "metadata.jsonl")
    assert [(row["concept"], row["origin"]) for row in rows] == [
        ("sks", "style_ref/00.png"), ("sks", "style_ref/02.png"), ("ukj", "style_ref/01.png"), ("ukj", "style_ref/03.png"),
    ]  # fmt: skip
    assert all((tmp_path / "aux" / row["file_name"]).is_file() for row in rows)
    about = read_json(tmp_path / "aux" / "aux.json")
    assert (about["source"], about["count"], [part["concept"] for part in about["parts"]]) == ("target", 4, ["sks", "ukj"])
