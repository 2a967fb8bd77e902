from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from components.core.errors import StorageError
from components.diffusion.training import checkpoints as module
from components.diffusion.training.checkpoints import Checkpoints, flatten_optimizer, unflatten_optimizer

TENSORS = {"weights": {"a": torch.arange(4.0), "b": torch.ones(2, 2)}, "average": {}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_comes_back_bit_for_bit_without_pickle(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2, "f")
    assert checkpoints.newest() is None
    checkpoints.write(7, TENSORS, {"log": [{"loss": 0.1}]})
    found = checkpoints.newest()
    assert found is not None and (found.step, found.state) == (7, {"log": [{"loss": 0.1}]})
    assert torch.equal(found.tensors["weights"]["a"], torch.arange(4.0))
    assert found.tensors["average"] == {}
    assert {path.suffix for path in found.path.iterdir()} == {".safetensors", ".json"}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 2, "f")
    for step in (2, 4, 6, 10):
        checkpoints.write(step, TENSORS, {})
    assert names(tmp_path) == ["step-00000006", "step-00000010"]
    assert checkpoints.last == tmp_path / "step-00000010"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 3, "f")
    for step in (1, 2, 3):
        checkpoints.write(step, TENSORS, {})
    file = tmp_path / "step-00000003" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    (tmp_path / "step-00000002" / "state.json").write_text("{")
    found = checkpoints.newest()
    assert found is not None and found.step == 1


def test_anothers_are_passed_over_and_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    Checkpoints(tmp_path, 2, "other").write(1, TENSORS, {})
    (tmp_path / ".step-00000004.abc.tmp").mkdir()
    (tmp_path / "mine").mkdir()
    assert Checkpoints(tmp_path, 2, "f").newest() is None
    assert names(tmp_path) == ["mine", "step-00000001"]


def test_a_full_disk_keeps_earlier_checkpoints_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, 2, "f")
    checkpoints.write(1, TENSORS, {})

    def full(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        checkpoints.write(2, TENSORS, {})
    assert caught.value.exit_code == 1
    assert "step-00000002" in str(caught.value)
    assert names(tmp_path) == ["step-00000001"]
    assert checkpoints.newest() is not None


def test_an_optimizers_state_survives_flattening() -> None:
    def build() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        layer = torch.nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight.fill_(0.5)
            layer.bias.zero_()
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def move(layer: torch.nn.Linear, optimizer: torch.optim.AdamW, value: float) -> None:
        optimizer.zero_grad()
        layer(torch.full((1, 3), value)).square().sum().backward()
        optimizer.step()

    first, optimizer = build()
    move(first, optimizer, 1.0)
    tensors, plain = flatten_optimizer(optimizer.state_dict())
    assert set(tensors) == {f"state|{index}|{name}" for index in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    second, restored = build()
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    restored.load_state_dict(unflatten_optimizer({key: value.clone() for key, value in tensors.items()}, plain))
    for layer, each in ((first, optimizer), (second, restored)):
        move(layer, each, 2.0)
    assert torch.equal(first.weight, second.weight)
