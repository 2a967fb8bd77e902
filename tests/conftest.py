from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stand_in import StandIn, make_stand_in


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A stand-in whose pipeline has run once."""
    stand_in = make_stand_in(tmp_path_factory.mktemp("stand-in"))
    try:
        result = stand_in.run()
        assert result["cached"] == []
        yield stand_in
    finally:
        stand_in.close()
