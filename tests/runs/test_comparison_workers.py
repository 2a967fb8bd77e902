from pathlib import Path
from typing import Any

import pytest

from runs import comparison_workers
from runs.comparison_workers import processes_that_fit, shard


def cells(styles: int, seeds: int, methods: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{style}-{seed}-{method}", "style": str(style), "seed": seed}
        for seed in range(seeds) for style in range(styles) for method in range(methods)
    ]  # fmt: skip


@pytest.mark.parametrize(("styles", "seeds", "methods", "count"), [(1, 1, 6, 4), (6, 3, 6, 4), (1, 3, 2, 3), (1, 1, 1, 2)])
def test_every_cell_is_shared_out_once(styles: int, seeds: int, methods: int, count: int) -> None:
    everything = cells(styles, seeds, methods)
    shares = [shard(everything, index, count) for index in range(count)]
    assert sorted(cell["id"] for part in shares for cell in part) == sorted(cell["id"] for cell in everything)


def test_what_shares_a_style_and_a_seed_stays_together() -> None:
    for index in range(4):
        mine = shard(cells(6, 3, 6), index, 4)
        assert {(cell["style"], cell["seed"]): 6 for cell in mine} == {
            key: sum((cell["style"], cell["seed"]) == key for cell in mine) for key in {(cell["style"], cell["seed"]) for cell in mine}
        }


def test_processes_without_a_device_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_workers, "devices", lambda: 0)
    monkeypatch.setattr(comparison_workers, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert comparison_workers._environment(0, 3)["OMP_NUM_THREADS"] == "2"
    assert comparison_workers._environment(0, 20)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert comparison_workers._environment(0, 3)["OMP_NUM_THREADS"] == "5"


def test_processes_are_as_many_as_cores_and_memory_carry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    class Memory:
        available = 10 * 2**30

    monkeypatch.setattr(comparison_workers, "cores", lambda: 4)
    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights.safetensors").write_bytes(b"")
    assert processes_that_fit({str(tmp_path)}) == 4
    # 2 GB for a process and ten times 100 MB for its networks: 10 // 2.98.
    (tmp_path / "unet" / "weights.safetensors").write_bytes(bytes(100 * 2**20))
    assert processes_that_fit({str(tmp_path)}) == 3
    assert processes_that_fit({str(tmp_path / "unet" / "weights.safetensors")}) == 3
    assert processes_that_fit({"some/hub-model", str(tmp_path)}) == 1
    assert processes_that_fit({"pocket"}) == 4
