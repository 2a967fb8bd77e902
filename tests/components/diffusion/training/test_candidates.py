"""Candidates: what a training leaves on its way, and that leaving them changes nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.core.content import digest_folder
from components.core.model_card import CANDIDATES
from components.core.paths import read_json
from components.diffusion.export.candidates import read_candidates, take_candidate
from components.diffusion.models.bundle import load_bundle
from components.diffusion.training.candidates import candidate_steps
from components.evaluation.selection_page import preview_rows
from tests.components.diffusion.conftest import Folders, configure, cut_power, train
from tests.components.diffusion.training.test_loop import FILES, RICH


def test_steps_are_evenly_spaced_and_end_with_the_last() -> None:
    assert candidate_steps(800, 5) == [160, 320, 480, 640, 800]
    assert candidate_steps(7, 3) == [2, 5, 7]
    assert candidate_steps(7, 1) == [7] and candidate_steps(2, 4) == [1, 2]


def tensors(model: Path) -> dict[str, torch.Tensor]:
    return {f"{part}.{name}": value for part, each in load_bundle(model).family.parts.items() for name, value in each.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("method", "training"),
    [("single-styleforge", RICH), ("lora", {"steps": 7, "optimizer": "schedule-free"})],
    ids=["average", "schedule-free"],
)
def test_a_candidate_is_what_the_model_would_be_and_leaves_the_rest_as_it_was(
    tiny_base: Path, folders: Folders, method: str, training: dict[str, object]
) -> None:
    if "optimizer" in training:
        pytest.importorskip("schedulefree")
    training = {**training, "schedule": "constant"}
    settings = {"method": {"name": method}, "training": training}
    plain = train(configure(tiny_base, **settings), folders, "plain")
    chosen = train(configure(tiny_base, **settings, selection={"candidates": 3}), folders, "candidates")
    found = read_candidates(chosen)
    assert list(found) == [2, 5, 7] and found[7] == chosen
    # The last weights are the same bits; an earlier candidate is what training to there ends with.
    assert equal(tensors(plain), tensors(chosen))
    short = train(configure(tiny_base, **{**settings, "training": {**training, "steps": 5}}), folders, "short")
    assert equal(tensors(short), tensors(found[5])) and not equal(tensors(short), tensors(chosen))


def test_the_chosen_candidate_becomes_the_model(tiny_base: Path, folders: Folders, tmp_path: Path) -> None:
    config = configure(tiny_base, selection={"candidates": 3})
    model = train(config, folders)
    chosen = take_candidate(model, 4, tmp_path / "chosen", {"step": 4, "guidance": 2.0})
    assert equal(tensors(chosen), tensors(read_candidates(model)[4]))
    assert all((chosen / file).is_file() for file in FILES) and not (chosen / CANDIDATES).exists()
    card = read_json(chosen / "styleforge.json")
    assert card == {**read_json(model / "styleforge.json"), "selection": {"step": 4, "guidance": 2.0}}
    assert (chosen / "training" / "log.jsonl").read_bytes() == (model / "training" / "log.jsonl").read_bytes()
    last = take_candidate(model, 6, tmp_path / "last", {})
    assert equal(tensors(last), tensors(model)) and not (last / CANDIDATES).exists()


def test_what_was_drawn_of_the_last_checkpoint_is_not_the_chosen_ones(tiny_base: Path, folders: Folders, tmp_path: Path) -> None:
    training = {"validation_prompts": ["a dog in {token} style"], "preview_every": 2}
    config = configure(tiny_base, method={"name": "lora"}, training=training, selection={"candidates": 2}, sampling={"steps": 2})
    model = train(config, folders)
    assert len((preview_rows(model) or {})["exported"]) == 1
    shown = preview_rows(take_candidate(model, 3, tmp_path / "chosen", {}))
    assert shown is not None and not shown["exported"]
    # Drawn on the way, those up to the chosen step are its own.
    assert [sheet["step"] for sheet in shown["sheets"]] == [0, 2]


def test_a_lora_candidate_comes_with_the_files_for_other_programs(tiny_base: Path, folders: Folders, tmp_path: Path) -> None:
    model = train(configure(tiny_base, method={"name": "lora"}, selection={"candidates": 2}), folders)
    chosen = take_candidate(model, 3, tmp_path / "chosen", {})
    short = train(configure(tiny_base, method={"name": "lora"}, training={"steps": 3}), folders, "short")
    for file in ("kohya.safetensors", "delta.safetensors"):
        assert equal(load_file(chosen / file), load_file(short / file))
    assert (chosen / CANDIDATES).exists() is False
    small = sum(item.stat().st_size for item in (model / CANDIDATES).rglob("*"))
    assert small < 0.2 * sum(item.stat().st_size for item in tiny_base.rglob("*") if item.is_file())


def test_candidates_survive_an_interruption_bit_for_bit(tiny_base: Path, folders: Folders, caplog: pytest.LogCaptureFixture) -> None:
    config = configure(tiny_base, training=RICH, selection={"candidates": 4})
    whole = train(config, folders, "whole")
    cut_power(config, folders, "parts", 6)
    parts = train(config, folders, "parts")
    cut_power(config, folders, "lost", 6)
    # Of step 4: the checkpoint of step 4 is ahead of it by nothing, the one of step 6 by two steps.
    lost = sorted((folders.out.parent / "ck-lost" / CANDIDATES).iterdir())
    assert [file.name.split("-")[1] for file in lost] == ["00000002", "00000004", "00000005"]
    lost[2].write_bytes(lost[2].read_bytes()[:-5])
    caplog.clear()
    again = train(config, folders, "lost")
    assert [record.getMessage() for record in caplog.records if "candidate of step 5 is lost" in record.getMessage()]
    for model, resumed in ((parts, 6), (again, 4)):
        assert read_json(model / "training" / "timing.json")["resumed_from"] == resumed
    for model in (whole, parts, again):
        (model / "training" / "timing.json").unlink()
    assert digest_folder(whole) == digest_folder(parts) == digest_folder(again)
