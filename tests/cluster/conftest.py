"""A namespace for each test on the cluster that KUBECONFIG points at; without one these tests say so and are skipped.

STYLEFORGE_TEST_IMAGE names an image with Python that is on the node already.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from components.cluster.client import Access, Cluster, connect
from components.core.errors import StyleForgeError
from tests.cluster.environment import House, house, wait_for_account


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A furnished namespace with the stack ``kubernetes``, and the pictures of a style, once for all tests."""
    with house(tmp_path_factory.mktemp("house")) as made:
        made.call("pocket", "render", "--style", "anime", "--out", "data/pocket/anime")
        yield made


@dataclass
class Place:
    """A connection and a namespace of one's own."""

    api: Cluster
    namespace: str

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    def create(self, kind: str, name: str, *, group: str = "", **content: Any) -> dict[str, Any]:
        """Create an object of the namespace; ``kind`` is the plural of the path, ``group`` such as ``batch/v1``."""
        place = f"/apis/{group}/namespaces/{self.namespace}" if group else self.path
        return self.api.create(f"{place}/{kind}", {"metadata": {"name": name}, **content})


def _connect() -> Cluster:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set: no cluster to test on")
    try:
        cluster = connect(Access())
        cluster.get("/version")
    except StyleForgeError as error:
        pytest.skip(f"no cluster to test on: {error}")
    return cluster


@pytest.fixture
def cluster() -> Iterator[Place]:
    api = _connect()
    name = f"sf-test-{secrets.token_hex(3)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        wait_for_account(name)
        yield Place(api, name)
    finally:
        api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="session")
def image() -> str:
    name = os.environ.get("STYLEFORGE_TEST_IMAGE")
    if not name:
        pytest.skip("STYLEFORGE_TEST_IMAGE is not set: no image to make pods of")
    return name
