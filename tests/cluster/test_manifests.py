"""Each overlay as the API server sees it: sent with a dry run, in the versions that the server has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from kubernetes.dynamic.exceptions import ConflictError, ResourceNotFoundError

from tests.cluster.environment import BASE, IMAGE, apply, client
from tests.infra.kubernetes.manifests import OVERLAYS, name_of, resolved

NAMESPACES = ("styleforge", "styleforge-runs")
# What Kubernetes 1.20 calls by an older version, field by field the same for what we say.
OLDER = {("policy/v1", "PodDisruptionBudget"): "policy/v1beta1", ("batch/v1", "CronJob"): "batch/v1beta1"}


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
        resource = _resource(dynamic, manifest)
        place = {"namespace": manifest["metadata"].get("namespace"), "dry_run": "All"}
        try:
            answer = resource.create(body=manifest, **place)
        except ConflictError:  # A priority class of other tests.
            answer = resource.patch(body=manifest, name=manifest["metadata"]["name"], content_type="application/merge-patch+json", **place)
        assert answer.metadata.name == manifest["metadata"]["name"], name_of(manifest)
        sent += 1
    assert sent > 20


def _resource(dynamic: Any, manifest: dict[str, Any]) -> Any:
    try:
        return dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
    except ResourceNotFoundError:
        manifest["apiVersion"] = OLDER[manifest["apiVersion"], manifest["kind"]]
        if manifest["kind"] == "CronJob":
            manifest["spec"].pop("timeZone", None)
        return dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])


@pytest.mark.slow
def test_mlflow_starts_from_its_manifest_and_takes_a_run(dynamic: Any) -> None:
    """As it stands in ``infra/kubernetes``, but for a database of its own in the place of PostgreSQL."""
    kubernetes = client()
    core, place = kubernetes.client.CoreV1Api(), "styleforge"
    core.create_namespaced_secret(place, _secret("styleforge-mlflow", {"backend-store-uri": "sqlite:////tmp/mlflow.db"}))
    core.create_namespaced_secret(place, _secret("styleforge-s3", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}))
    for name in ("priorities", "accounts", "mlflow"):
        for manifest in yaml.safe_load_all((BASE / f"{name}.yaml").read_text()):
            if manifest["metadata"].get("namespace", place) == place and manifest["kind"] != "PodDisruptionBudget":
                if manifest["kind"] == "Deployment":
                    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = IMAGE
                apply(place, manifest)
    apps = kubernetes.client.AppsV1Api()
    end = time.monotonic() + 240
    while not apps.read_namespaced_deployment("mlflow", place).status.ready_replicas:
        assert time.monotonic() < end, [event.message for event in core.list_namespaced_event(place).items][-8:]
        time.sleep(1)
    (pod,) = core.list_namespaced_pod(place, label_selector="app.kubernetes.io/name=mlflow").items
    code = (
        "import mlflow; mlflow.set_tracking_uri('http://localhost:5000'); run = mlflow.start_run(); mlflow.log_metric('kid', 0.5); "
        "print(mlflow.get_run(run.info.run_id).data.metrics)"
    )
    said = kubernetes.stream.stream(
        core.connect_get_namespaced_pod_exec, pod.metadata.name, place, command=["python", "-c", code], stdout=True, stderr=True
    )
    assert "{'kid': 0.5}" in said, said


def _secret(name: str, values: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "stringData": values}
