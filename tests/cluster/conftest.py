"""A namespace for each test on the cluster that KUBECONFIG points at; without one these tests say so and are skipped.

STYLEFORGE_TEST_IMAGE names an image with Python that is on the node already.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from components.cluster.client import Access, Cluster, connect
from tests.cluster.environment import Environment, client, prepared_environment, wait_for_account


@pytest.fixture(scope="session")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A namespace that is ready for runs, with the stack ``kubernetes``, and the pictures of a style, once for all tests."""
    with prepared_environment(tmp_path_factory.mktemp("env")) as made:
        made.call("pocket", "render", "--style", "anime", "--out", "data/pocket/anime")
        yield made


@dataclass
class Namespace:
    api: Cluster
    namespace: str

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    def create(self, kind: str, name: str, *, group: str = "", **content: Any) -> dict[str, Any]:
        """Create an object of the namespace; ``kind`` is the plural of the path, ``group`` such as ``batch/v1``."""
        place = f"/apis/{group}/namespaces/{self.namespace}" if group else self.path
        return self.api.create(f"{place}/{kind}", {"metadata": {"name": name}, **content})


@pytest.fixture
def cluster() -> Iterator[Namespace]:
    client()
    api = connect(Access())
    name = f"sf-test-{secrets.token_hex(3)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        wait_for_account(name)
        yield Namespace(api, name)
    finally:
        api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def image() -> str:
    name = os.environ.get("STYLEFORGE_TEST_IMAGE")
    if not name:
        pytest.skip("STYLEFORGE_TEST_IMAGE is not set: no image to make pods of")
    return name
