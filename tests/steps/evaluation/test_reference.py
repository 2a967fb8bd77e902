"""A rendered family from its metadata through manifest and pairs to paired truth; the formulae are tested beside the measure."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.art.families import FAMILIES
from components.art.packages import fetch
from components.art.style_set import Sizes, render_style_set
from components.core.paths import read_json, read_jsonl, write_jsonl
from components.evaluation.truth import MEASURES, pair_unseen
from components.styledata.split import split_style_set
from steps.evaluation.reference import concepts_of
from steps.evaluation.score import score_into
from steps.io.artifacts import Folder
from tests.components.styledata.helpers import grant, scan
from tests.fixtures_models import tiny_clip_folder
from tests.made_art import THINGS, Registry, registry

__all__ = ["registry"]
SCORING = {"bootstrap": 20, "kid_subset_size": 4, "kid_subsets": 3}


class Art:
    """The family ``lines`` as a scanned style set, with drawings by two others in its pool."""

    def __init__(self, root: Path) -> None:
        fetch(list(FAMILIES.values()))
        self.root, self.source = root, root / "source"
        others = [family for family in FAMILIES.values() if family.name != "lines"]
        render_style_set(FAMILIES["lines"], others, self.source, Sizes(side=32, pool=30), seed=0)

    def scan(self, *, concepts: bool = True) -> tuple[Folder, Folder]:
        """The style set, and its split by the roles of the metadata."""
        where = self.root / f"concepts-{concepts}"
        scan(self.source, where / "set", aux="curated", concepts=concepts)
        return Folder(where / "set"), Folder(split_style_set(where / "set", where / "split", lambda: pytest.fail("every role is known")))

    def row(self, family: str, concept: str) -> dict[str, Any]:
        return next(row for row in read_jsonl(self.source / "metadata.jsonl") if (row["family"], row["concept"]) == (family, concept))

    def drawn(self, name: str, family: str, concepts: tuple[str, ...]) -> Path:
        """A folder as the sampler leaves it: prompts for concepts, drawn nearly as a family draws them."""
        rows = []
        (self.root / name / "images").mkdir(parents=True)
        for number, concept in enumerate(concepts):
            file = f"images/{number}.png"
            with Image.open(self.source / self.row(family, concept)["file_name"]) as image:
                image.point(lambda level: max(level - 3, 0)).save(self.root / name / file)
            text = f"a {concept.replace('-', ' ')}"
            rows.append({"file_name": file, "prompt_id": f"p{number}", "category": "things", "prompt": text, "repeat": 0})
        write_jsonl(self.root / name / "metadata.jsonl", rows)
        return self.root / name


@pytest.fixture
def art(registry: Registry, tmp_path: Path) -> Art:
    return Art(tmp_path)


def test_concepts_come_from_the_metadata(art: Art) -> None:
    style_set, split = art.scan()
    found = concepts_of(style_set, split)
    rows = {row["file_name"]: row["concept"] for row in read_jsonl(art.source / "metadata.jsonl")}
    assert list(found.reference) == [rows[path] for path in read_json(split.path / "split.json")["reference"]]
    assert sorted(found.style_ref) == sorted(concept for path, concept in rows.items() if path.startswith("style_ref/"))
    others = {path.relative_to(style_set.path / "images").as_posix(): concept for path, concept in found.others.items()}
    assert others == {path: concept for path, concept in rows.items() if path.startswith("aux_pool/")}
    assert all(path.is_file() for path in found.others)
    unrecorded = concepts_of(*art.scan(concepts=False))
    assert not any(unrecorded.reference) and not unrecorded.style_ref and not unrecorded.others


def test_a_concept_that_styleref_shows_makes_no_pair(art: Art) -> None:
    shown = next(row["file_name"] for row in read_jsonl(art.source / "metadata.jsonl") if row["file_name"].startswith("style_ref/"))
    grant(art.source, {shown: {"concept": "Drum"}})
    concepts = concepts_of(*art.scan())
    pairs, left_out = pair_unseen({"p0": "a drum", "p1": "a bell pepper"}, concepts)
    assert [(key, concepts.reference[place]) for key, place in pairs] == [("p1", "bell-pepper")] and left_out == 1


def test_truth_of_a_rendered_family(art: Art, tmp_path: Path) -> None:
    style_set, split = art.scan()
    pictures, base = art.drawn("pictures/style", "lines", THINGS), art.drawn("base", "noto", THINGS)
    art.drawn("pictures/plain", "noto", THINGS)
    scoring = {"extractor": str(tiny_clip_folder(tmp_path / "clip", seed=1)), "measures": ["style_score", "truth"], **SCORING}
    score_into(tmp_path / "scores", style_set, split, Folder(pictures.parent), Folder(base), 0, ["sks"], scoring, {})
    scores = read_json(tmp_path / "scores" / "scores.json")
    others = scores["measures"]["other_artists"]
    assert set(others) == set(MEASURES)
    for name in MEASURES:
        own = scores["style"][name]
        assert own["n"] == len(THINGS) == others[name]["n"] and others[name]["low"] <= others[name]["value"] <= others[name]["high"]
        # The model draws nearly as the artist did, the base as one of the others.
        assert own["value"] < min(scores["base"][name]["value"], others[name]["value"])
    assert not any(note.startswith("truth") for note in scores["measures"]["notes"])
    # Where nobody else drew what is compared, there is no such figure.
    alone = tmp_path / "alone"
    grant(art.source, {row["file_name"]: {"concept": "x"} for row in read_jsonl(art.source / "metadata.jsonl") if row["family"] != "lines"})
    scan(art.source, alone, aux="curated", concepts=True)
    score_into(tmp_path / "again", Folder(alone), split, Folder(pictures.parent), Folder(base), 0, ["sks"], scoring, {})
    again = read_json(tmp_path / "again" / "scores.json")
    assert "other_artists" not in again["measures"] and again["style"]["truth"] == scores["style"]["truth"]
