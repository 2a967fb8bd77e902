import shutil
from pathlib import Path

import pytest

from components.registry.tracking import open_tracking
from tests.components.registry.made_versions import Shelf


@pytest.fixture
def shelf(empty_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    for name in ("GITHUB_RUN_ID", "GITLAB_CI", "BUILD_URL"):
        monkeypatch.delenv(name, raising=False)
    shutil.copyfile(empty_registry, tmp_path / "mlflow.db")
    return Shelf(open_tracking(f"sqlite:///{tmp_path}/mlflow.db"), tmp_path / "models")
