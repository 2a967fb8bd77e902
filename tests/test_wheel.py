"""The wheel is an application: one name in site-packages, the tree inside it, and commands that work from any folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from components.core.paths import FLOORS, REPOSITORY
from infra.wheel import TREE


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the working tree with the build tools that are installed."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=REPOSITORY, check=True, capture_output=True
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_tree_under_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"styleforge"}
    assert "styleforge = styleforge.__main__:main" in entry
    listed = subprocess.run(["git", "ls-files", *TREE], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.split()
    if listed:
        assert names >= {f"styleforge/{name}" for name in listed}
    assert set(FLOORS) <= set(TREE)
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
