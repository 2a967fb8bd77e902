from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.registry.tracking import open_tracking
from tests.components.registry.made_versions import Shelf


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry, since creating one takes seconds."""
    file = tmp_path_factory.mktemp("template") / "mlflow.db"
    open_tracking(f"sqlite:///{file}").client.search_registered_models()
    return file


@pytest.fixture
def shelf(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A registry of the test's own, and a shelf for its models."""
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    for name in ("GITHUB_RUN_ID", "GITLAB_CI", "BUILD_URL"):
        monkeypatch.delenv(name, raising=False)
    shutil.copyfile(template, tmp_path / "mlflow.db")
    return Shelf(open_tracking(f"sqlite:///{tmp_path}/mlflow.db"), tmp_path / "models")
