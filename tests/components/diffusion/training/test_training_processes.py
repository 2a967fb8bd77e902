import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.core.config import RunConfig
from components.core.errors import ConfigError, ProcessLost
from components.core.paths import read_json, read_jsonl
from components.diffusion.training import fine_tuning
from components.diffusion.training.launch import launch
from tests.components.diffusion.conftest import write_folders
from tests.components.diffusion.trainings import CASES, HALF, WHOLE, Deadly, Notes, Place, battery, config, train

# Adam divides by the gradient's own size, so where that is near zero its rounding comes through: by 1e-5 at a rate of 1e-3.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def place(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("processes")
    return Place(tiny_base, write_folders(root / "run", style=9, aux=7).inputs, root)


@pytest.fixture(scope="module")
def killed(place: Place) -> tuple[ProcessLost, list[str]]:
    """What came of a training whose second process was killed: the error, and the checkpoints that were there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEFORGE_HOME", str(place.root / "home"))
        with pytest.raises(ProcessLost) as caught:
            run = config(place, "single-styleforge", HALF)
            train(place, run, "killed", load_image=Deadly(at=40), on_checkpoint=Notes(place.root / "notes"))
    checkpoints = place.root / "ck-killed"
    shutil.copytree(checkpoints, place.root / "ck-alone")
    return caught.value, [path.name for path in checkpoints.iterdir()]


@pytest.fixture(scope="module")
def halves(place: Place, killed: tuple[ProcessLost, list[str]]) -> Place:
    """The place where two processes have done all their trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEFORGE_HOME", str(place.root / "home"))
        launch(battery, (place,), 2)
    return place


def tensors(model: Path) -> dict[str, torch.Tensor]:
    files = sorted(model.rglob("*.safetensors"))
    return {f"{file.relative_to(model)}:{key}": value.float() for file in files for key, value in load_file(file).items()}


def moved(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The greatest difference between two models' weights."""
    assert first.keys() == second.keys()
    return max(float((first[key] - second[key]).abs().max()) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_are_one_with_twice_the_batch(halves: Place, name: str) -> None:
    whole = train(halves, config(halves, name, WHOLE), f"{name}-1")
    half = halves.root / f"{name}-2"
    assert moved(tensors(whole), tensors(half)) < TOLERANCE
    logs = [read_jsonl(model / "training" / "log.jsonl") for model in (whole, half)]
    assert len(logs[0]) == 4
    for one, two in zip(*logs, strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-5)
    images = [read_json(model / "training" / "timing.json")["images"] for model in (whole, half)]
    assert images[0] == images[1] > 0
    assert read_json(half / "styleforge.json")["training"]["processes"] == 2
    # The tolerance tells: half the batch leads elsewhere.
    other = train(halves, config(halves, name, {**HALF, "processes": 1}), f"{name}-half")
    assert moved(tensors(whole), tensors(other)) > 3 * TOLERANCE


@pytest.mark.slow
def test_all_processes_see_a_divergence_or_other_checkpoints_at_once(halves: Place) -> None:
    for fault, message in (("diverged", "training step "), ("apart", "checkpoints of different steps (2, 0)")):
        said = [(halves.root / f"{fault}-{rank}.txt").read_text() for rank in (0, 1)]
        assert all(message in text for text in said) and (fault == "apart" or said[0] == said[1])
        assert not (halves.root / fault).exists()


@pytest.mark.slow
def test_all_processes_end_early_together(halves: Place) -> None:
    assert read_json(halves.root / "ended" / "styleforge.json")["training"]["ended_at"] == 2
    assert [note.name for note in (halves.root / "looks").iterdir()] == ["0 step-00000002"]


@pytest.mark.slow
def test_a_killed_process_costs_nothing_but_time(halves: Place, killed: tuple[ProcessLost, list[str]]) -> None:
    error, checkpoints = killed
    assert "process 1 of the training: it died (SIGKILL)" in str(error)
    assert checkpoints == ["step-00000002"]
    assert [note.name for note in (halves.root / "notes").iterdir()] == ["0 step-00000002"]
    again, undisturbed = halves.root / "killed", halves.root / "single-styleforge-2"
    assert read_json(again / "training" / "timing.json")["resumed_from"] == 2
    assert moved(tensors(again), tensors(undisturbed)) == 0.0
    # Another division of the same batch takes it up as well.
    alone = train(halves, config(halves, "single-styleforge", WHOLE), "alone")
    assert read_json(alone / "training" / "timing.json")["resumed_from"] == 2
    assert moved(tensors(alone), tensors(undisturbed)) < TOLERANCE


def test_one_process_starts_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(fine_tuning.launch, "launch", lambda *given: started.append(given))
    assert (train(place, config(place, "textual-inversion", {}, steps=1), "one") / "styleforge.json").is_file()
    assert started == []
    train(place, config(place, "textual-inversion", HALF, steps=1), "two")
    assert [given[-1] for given in started] == [2]


def test_what_cannot_be_is_refused_before_anything_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fine_tuning, "read_training_set", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ConfigError, match=r"training\.processes"):
        train(place, config(place, "lora", HALF), "refused")


def test_the_division_is_no_part_of_what_a_training_is() -> None:
    def batches(**settings: int) -> dict[str, Any]:
        return RunConfig.model_validate({"style": {"name": "s", "source": "s"}, "training": settings}).training.global_batch_config()

    assert batches(**HALF) == batches(**WHOLE)
    assert batches(processes=2) == batches(batch_size=2)
    assert batches(processes=2) != batches()
    assert "processes" not in json.dumps(batches())
