from pathlib import Path
from typing import Any

import pytest

from components.core.config import RunConfig, load_config
from components.diffusion.planning.advice import LADDER, changed, smallest_change
from components.diffusion.planning.records import MemoryPlan, StepMemory
from tests.components.diffusion.conftest import configure


def estimate(config: RunConfig) -> MemoryPlan:
    """A model of memory in round numbers: activations by picture, sixteen units of weights trained, less with the cheaper choices."""
    training = config.training
    pictures = training.batch_size + (training.aux_batch_size or training.batch_size)
    lora = config.method.name == "lora"
    state = 0 if lora else {"adamw": 80, "adafactor": 10}.get(training.optimizer, 20)
    steps = (
        StepMemory("train", 10 if lora else 40, optimizer=state, activations=pictures * (5 if training.gradient_checkpointing else 20)),
        StepMemory("sample", 10, activations=config.sampling.batch_size * 2),
    )
    return MemoryPlan("toy", 64, {}, steps)


BATCHES = {"batch_size": 4, "aux_batch_size": 2}
START: dict[str, Any] = {"training": BATCHES, "sampling": {"batch_size": 32}}


@pytest.mark.parametrize(
    ("usable", "wanted"),
    [
        # 40 + 80 + 6 · 20 = 240 are needed at first, and 74 for drawing.
        (160, {"training.gradient_checkpointing": True}),
        (140, {"training.gradient_checkpointing": True, "training.batch_size": 2, "training.aux_batch_size": 1,
               "training.gradient_accumulation": 2}),
        # The optimizer alone is enough then: smaller batches are taken back.
        (100, {"training.gradient_checkpointing": True, "training.optimizer": "adafactor"}),
        (42, {"training.gradient_checkpointing": True, "sampling.batch_size": 16, "method.name": "lora", "training.learning_rate": None}),
        (5, None),
    ],
)  # fmt: skip
def test_the_cheapest_changes_that_are_needed_and_no_others(
    usable: int, wanted: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = configure(Path("pocket"), **START)
    change = smallest_change(config, estimate, usable)
    assert (change.settings if change else None) == wanted
    if change:
        assert change.plan.peak.total <= usable
        assert estimate(changed(config, change.settings)) == change.plan


def test_what_is_printed_can_be_typed() -> None:
    config = configure(Path("pocket"), **START)
    change = smallest_change(config, estimate, 42)
    assert change is not None
    options = change.options().split()[1::2]
    assert estimate(load_config("pocket", [*options, "training.aux_batch_size=2"])).steps[1].total == 42
    assert "training.learning_rate=null" in options and "training.gradient_checkpointing=true" in options


@pytest.mark.parametrize("name", ["sd15", "sdxl", "pocket"])
def test_every_change_goes_with_the_shipped_configurations(name: str) -> None:
    config = load_config(name, ["style.name=a", "style.source=b"])
    for rung in LADDER:
        settings = rung(config)
        assert settings is None or changed(config, settings) != config
