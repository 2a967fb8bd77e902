import gc
import logging
import shutil
from pathlib import Path

import pytest

from components.core.paths import FLOORS
from components.registry.tracking import open_tracking
from tests.stand_in import StandIn, make_stand_in

gc.set_threshold(100_000, 20, 20)  # As the command does.


@pytest.fixture(autouse=True)
def loggers() -> None:
    """Loggers as Python has them: a command's ``set_up`` or ZenML (root at ERROR) in one test would hide the next one's messages."""
    logging.getLogger().setLevel(logging.WARNING)
    for name in FLOORS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)
    logging.captureWarnings(False)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's state goes, and what it registers."""
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def finished_copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[StandIn, Path]:
    """A stand-in whose pipeline has run once, and a copy of its folder as it was then."""
    stand_in = make_stand_in(tmp_path_factory.mktemp("finished") / "stand-in")
    stand_in.first = stand_in.run()
    assert stand_in.first["cached"] == []
    copy = stand_in.folder.with_name("copy")
    shutil.copytree(stand_in.folder, copy, symlinks=True)
    return stand_in, copy


@pytest.fixture(scope="module")
def finished(finished_copy: tuple[StandIn, Path]) -> StandIn:
    """A stand-in whose pipeline has run once, as new for each module: always in one place, which its databases name."""
    stand_in, copy = finished_copy
    shutil.rmtree(stand_in.folder)
    shutil.copytree(copy, stand_in.folder, symlinks=True)
    return stand_in


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty registry, since creating one takes seconds."""
    file = tmp_path_factory.mktemp("template") / "mlflow.db"
    open_tracking(f"sqlite:///{file}").client.search_registered_models()
    return file
