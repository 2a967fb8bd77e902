import pytest

from orchestration.environment import set_source_root


@pytest.fixture(scope="session", autouse=True)
def source_root() -> None:
    """ZenML would take the folder of pytest's script."""
    set_source_root()
