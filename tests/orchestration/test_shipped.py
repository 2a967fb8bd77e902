from pathlib import Path

import pytest

from components.core.gpus import gpu_memory
from orchestration.doctor import examine
from orchestration.shipped import fitting, shipped
from tests.components.diffusion.planning.shipped import CHANGES, planned


def test_the_doctor_says_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path))
    found = {}
    for gpu in ("80GB", "24GB", "2GB"):
        monkeypatch.setenv("STYLEFORGE_GPU", gpu)
        (found[gpu],) = (check for check in examine() if check.name == "GPU memory")
    assert [check.ok for check in found.values()] == [True, True, False]
    assert found["80GB"].detail == f"80GB, of the shipped configurations it fits {', '.join(CHANGES)}"
    assert "sdxl with method.name=lora" in found["24GB"].detail
    assert not any(check.needed for check in found.values())
    assert fitting(gpu_memory("24GB").usable)["sd15"] is shipped()[0]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name != "sd15" else []) for name in CHANGES])
def test_the_table_is_what_is_planned_now(name: str) -> None:
    """Where it is not: ``python -m tests.components.diffusion.planning.shipped`` writes the table anew."""
    rows = [row for row in shipped() if row.configuration == name]
    now = list(planned(name))
    assert [(row.configuration, row.settings) for row in rows] == [(row.configuration, row.settings) for row in now]
    assert [row.size for row in rows] == pytest.approx([row.size for row in now], rel=0.01)
