from pathlib import Path

import pytest

from tests.fixtures_captioners import tiny_blip_folder, tiny_llava_folder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava_folder(tmp_path_factory.mktemp("captioners") / "llava")


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip_folder(tmp_path_factory.mktemp("captioners") / "blip")
