"""Patience: a training that ends early is the one that was to end there, interrupted or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.core.content import digest_folder
from components.core.model_card import CANDIDATES
from components.core.paths import read_json, read_jsonl
from components.diffusion.export.candidates import read_candidates, take_candidate
from components.diffusion.models.bundle import Bundle
from components.diffusion.sampling.jobs import PromptRequest
from components.diffusion.sampling.sampler import sample_bank
from components.diffusion.training.fine_tuning import fine_tune
from components.diffusion.training.rng_state import forked_rng
from tests.components.diffusion.conftest import Folders, configure, train
from tests.components.diffusion.training.test_candidates import equal, tensors
from tests.components.diffusion.training.test_loop import RICH

CONSTANT = {**RICH, "schedule": "constant"}


@dataclass
class Draws:
    """Draws a picture of each candidate and has had enough after ``most`` of them."""

    most: int
    seen: list[int] = field(default_factory=list)

    def look(self, bundle: Bundle, step: int, folder: Path) -> dict[str, Any]:
        assert not list(folder.iterdir())
        settings = configure(Path(bundle.model), sampling={"steps": 2}).sampling
        sample_bank(bundle, [PromptRequest("a", "things", "a dog", "a dog")], settings, 3, folder, in_training=True)
        self.seen.append(step)
        return {"picture": digest_folder(folder)}

    def is_over(self, records: Sequence[Mapping[str, Any]]) -> bool:
        assert all(len(record["picture"]) == 64 for record in records)
        return len(records) >= self.most


def watched(base: Path, folders: Folders, name: str, watch: Draws, **options: Any) -> Path:
    config = configure(base, training=CONSTANT, selection={"candidates": 4})
    return fine_tune(config, *folders.inputs, folders.out.parent / name, folders.out.parent / f"ck-{name}", watch=watch, **options)


def test_it_ends_as_if_it_had_been_told_to_end_there(tiny_base: Path, folders: Folders, tmp_path: Path) -> None:
    watch = Draws(2)
    model = watched(tiny_base, folders, "ended", watch)
    short = train(configure(tiny_base, training={**CONSTANT, "steps": 4}), folders, "short")
    assert equal(tensors(model), tensors(short)) and watch.seen == [2, 4]
    card, log = read_json(model / "styleforge.json")["training"], read_jsonl(model / "training" / "log.jsonl")
    assert (card["steps"], card["ended_at"]) == (7, 4) and log == read_jsonl(short / "training" / "log.jsonl")
    assert list(read_candidates(model)) == [2, 4] and read_candidates(model)[4] == model
    assert read_json(model / "training" / "timing.json")["images"] == read_json(short / "training" / "timing.json")["images"]
    assert equal(tensors(take_candidate(model, 2, tmp_path / "chosen", {})), tensors(read_candidates(model)[2]))


def test_one_that_is_never_over_trains_as_without(tiny_base: Path, folders: Folders) -> None:
    watch = Draws(9)
    model = watched(tiny_base, folders, "watched", watch)
    plain = train(configure(tiny_base, training=CONSTANT, selection={"candidates": 4}), folders, "plain")
    assert watch.seen == [2, 4, 5] and "ended_at" not in read_json(model / "styleforge.json")["training"]
    for each in (model, plain):
        (each / "training" / "timing.json").unlink()
    assert digest_folder(model) == digest_folder(plain)


class PowerCut(BaseException):
    pass


def cut_after(step: int) -> Any:
    def told(path: Path) -> None:
        if path.name == f"step-{step:08d}":
            raise PowerCut

    return told


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "a record lost"])
def test_interrupted_it_ends_at_the_same_step(tiny_base: Path, folders: Folders, lost: bool) -> None:
    whole = watched(tiny_base, folders, "whole", Draws(3))
    with forked_rng(), pytest.raises(PowerCut):
        watched(tiny_base, folders, "parts", Draws(3), on_checkpoint=cut_after(4))
    records = sorted((folders.out.parent / "ck-parts" / CANDIDATES).glob("*.json"))
    assert [record.name.split("-")[1] for record in records] == ["00000002", "00000004"]
    if lost:
        records[1].write_text("{")
    again = Draws(3)
    parts = watched(tiny_base, folders, "parts", again)
    assert again.seen == ([4, 5] if lost else [5])
    for model in (whole, parts):
        (model / "training" / "timing.json").unlink()
    assert digest_folder(whole) == digest_folder(parts)
