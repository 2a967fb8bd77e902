"""Each overlay as the API server sees it: sent with a dry run, in the versions that the server has."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.dynamic.exceptions import ConflictError

from tests.cluster.environment import client, older
from tests.infra.kubernetes.manifests import OVERLAYS, name_of, resolved

NAMESPACES = ("styleforge", "styleforge-runs")


@pytest.fixture(scope="module")
def dynamic() -> Iterator[Any]:
    """A client that knows what the server serves, and the two namespaces. Leaves alone a cluster that has them already."""
    kubernetes = client()
    core = kubernetes.client.CoreV1Api()
    there = {item.metadata.name for item in core.list_namespace().items}
    if there & set(NAMESPACES):
        pytest.skip("StyleForge is installed here; a dry run would tell nothing that its installation did not")
    for name in NAMESPACES:
        core.create_namespace({"metadata": {"name": name}})
    try:
        yield kubernetes.dynamic.DynamicClient(kubernetes.client.ApiClient())
    finally:
        for name in NAMESPACES:
            core.delete_namespace(name)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_every_manifest(dynamic: Any, overlay: str) -> None:
    sent = 0
    for manifest in resolved(overlay):
        if manifest["kind"] == "Namespace":
            continue  # They are there, as the others need them.
        resource = dynamic.resources.get(api_version=older(manifest)["apiVersion"], kind=manifest["kind"])
        place = {"namespace": manifest["metadata"].get("namespace"), "dry_run": "All"}
        try:
            answer = resource.create(body=manifest, **place)
        except ConflictError:  # A priority class of other tests.
            answer = resource.patch(body=manifest, name=manifest["metadata"]["name"], content_type="application/merge-patch+json", **place)
        assert answer.metadata.name == manifest["metadata"]["name"], name_of(manifest)
        sent += 1
    assert sent > 20
