"""The preflight on a real cluster: what is there gets a tick, each fault its cross, and no pod stays."""

import base64
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import list_kube_config_contexts

from components.cluster.client import kubeconfig
from components.cluster.preflight import Report, examine_cluster
from components.cluster.probe import LABEL
from components.cluster.target import PodPlan, Services, Target
from components.core.checks import Check
from tests.cluster.conftest import Namespace

SECURE = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}


def _plan(*steps: str, image: str = "", env: dict[str, str] | None = None, limits: dict[str, str] | None = None, **spec: Any) -> PodPlan:
    container = {
        "name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": SECURE,
        "env": [{"name": name, "value": value} for name, value in {"STYLEFORGE_HOME": "/tmp/home", **(env or {})}.items()],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": limits or {}},
    }  # fmt: skip
    user = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
    return PodPlan(steps or ("scan",), {"metadata": {}, "spec": {"containers": [container], "securityContext": user, **spec}})


def _examine(cluster: Namespace, *plans: PodPlan, **changes: Any) -> tuple[Report, dict[str, Check]]:
    report = examine_cluster(Target(stack="test", namespace=cluster.namespace, pods=plans, **changes), seconds=40)
    return report, {check.name: check for check in report.checks}


def _nothing_left(cluster: Namespace) -> bool:
    """Whether no probe is left within seconds. Pods go with their Job; a kubelet may take its time over one that never started."""
    jobs = f"/apis/batch/v1/namespaces/{cluster.namespace}/jobs"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pods = cluster.api.items(f"{cluster.path}/pods", labelSelector=LABEL)
        if not cluster.api.items(jobs, labelSelector=LABEL) and all("deletionTimestamp" in pod["metadata"] for pod in pods):
            return True
        time.sleep(0.5)
    return False


def _web(cluster: Namespace, image: str) -> str:
    """A web server in a pod of its own, in the place of MLflow's; gives its address as other pods reach it."""
    serve = "import http.server as h\nclass H(h.BaseHTTPRequestHandler):\n def do_GET(s): s.send_response(200); s.end_headers()\n"
    serve += "h.HTTPServer(('', 5000), H).serve_forever()"
    container = {"name": "web", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["python", "-c", serve]}
    cluster.create("pods", "web", spec={"containers": [container], "terminationGracePeriodSeconds": 0})
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status = cluster.api.get(f"{cluster.path}/pods/web")["status"]
        if all(item.get("ready") for item in status.get("containerStatuses") or [{}]):
            return f"http://{status['podIP']}:5000"
        time.sleep(0.5)
    pytest.fail("the web server's pod did not start")


def test_sound_cluster(cluster: Namespace, image: str) -> None:
    web = _web(cluster, image)
    started = time.monotonic()
    report, checks = _examine(
        cluster, _plan("register", image=image, env={"MLFLOW_TRACKING_URI": web}), accounts=("default",),
        services=Services(zenml=web, artifacts="/tmp"),
    )  # fmt: skip
    assert time.monotonic() - started < 60
    assert report.healthy, [check for check in report.checks if not check.ok]
    assert {"namespace", "rights", "service accounts", "nodes for register", "admission", "probe"} <= set(checks)
    assert checks["MLflow from inside"].detail == web
    assert checks["home in the pod"].detail == "/tmp/home"
    assert _nothing_left(cluster)


def _token_of(cluster: Namespace, account: str) -> str:
    """A token of an account: asked for, or on old clusters the one in its Secret."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    try:
        return str(cluster.api.create(f"{cluster.path}/serviceaccounts/{account}/token", body)["status"]["token"])
    except Exception:
        secrets = cluster.api.items(f"{cluster.path}/secrets")
        found = [item for item in secrets if item["metadata"].get("annotations", {}).get("kubernetes.io/service-account.name") == account]
        return base64.b64decode(found[0]["data"]["token"]).decode()


def test_forbidden_namespace(cluster: Namespace, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.create("serviceaccounts", "nobody")
    with open(kubeconfig(), encoding="utf-8") as file:
        data = yaml.safe_load(file)
    data["users"] = [{"name": "nobody", "user": {"token": _token_of(cluster, "nobody")}}]
    _, current = list_kube_config_contexts()
    place = next(item["context"]["cluster"] for item in data["contexts"] if item["name"] == current["name"])
    data |= {"contexts": [{"name": "nobody", "context": {"cluster": place, "user": "nobody"}}], "current-context": "nobody"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(data))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    report, checks = _examine(cluster, _plan(image=image))
    assert not report.healthy and not report.unreachable
    assert "may not create jobs" in checks["rights"].detail
    assert not checks["probe"].ok and not checks["nodes"].needed
    assert not checks["admission"].ok and not checks["admission"].needed


def test_missing_image(cluster: Namespace) -> None:
    started = time.monotonic()
    check = _examine(cluster, _plan(image="127.0.0.1:1/no/such:image"))[1]["probe"]
    assert time.monotonic() - started < 50
    assert not check.ok and "the image cannot be pulled (" in check.detail
    assert "127.0.0.1:1/no/such:image" in check.detail and "settings.docker.parent_image" in check.remedy
    assert _nothing_left(cluster)


def test_a_pod_that_is_refused(cluster: Namespace, image: str) -> None:
    plan = _plan(image=image, serviceAccountName="nobody-there", priorityClassName="sf-no-such-class")
    checks = _examine(cluster, plan, accounts=("nobody-there",))[1]
    assert not checks["service accounts"].ok and not checks["priority classes"].ok and not checks["admission of scan"].ok
    assert "nobody-there" in checks["admission of scan"].detail and "the pod is refused" in checks["probe"].detail


def test_volumes_and_folders(cluster: Namespace, image: str) -> None:
    claim = {"storageClassName": "sf-no-such-class", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    cluster.create("persistentvolumeclaims", "hub", spec=claim)
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("hub", "nowhere")]
    _, checks = _examine(cluster, _plan(image=image, env={"STYLEFORGE_HOME": "/proc/home"}, volumes=volumes))
    assert "sf-no-such-class does not exist" in checks["volume hub"].detail and "no such claim" in checks["volume nowhere"].detail
    # The probe mounts no claims, so it runs all the same.
    assert checks["probe"].ok and not checks["home in the pod"].ok and "fsGroup" in checks["home in the pod"].remedy


def test_quota_and_limit_range(cluster: Namespace, image: str) -> None:
    cluster.create("resourcequotas", "small", spec={"hard": {"limits.cpu": "1", "pods": "5"}})
    cluster.create("limitranges", "small", spec={"limits": [{"type": "Container", "default": {"cpu": "500m"}, "max": {"memory": "1Gi"}}]})
    end = time.monotonic() + 10
    while "used" not in cluster.api.get(f"{cluster.path}/resourcequotas/small")["status"] and time.monotonic() < end:
        time.sleep(0.1)
    plans = (
        _plan("scan", image=image), _plan("score", image=image, limits={"cpu": "100m", "memory": "2Gi"}),
        _plan("fine_tune", image=image, limits={"cpu": "2"}), _plan("nowhere", image=image, serviceAccountName="no-such-account"),
    )  # fmt: skip
    _, checks = _examine(cluster, *plans)
    refused = {name.removeprefix("admission of "): check for name, check in checks.items() if name.startswith("admission")}
    # The server's own words, which tests/components/cluster imitates.
    assert set(refused) == {"score", "fine_tune", "nowhere"} and not any(check.ok for check in refused.values())
    assert "maximum memory usage per Container is 1Gi, but limit is 2Gi" in refused["score"].detail
    assert "exceeded quota: small, requested: limits.cpu=2, used: limits.cpu=0, limited: limits.cpu=1" in refused["fine_tune"].detail
    assert "more quota" in refused["fine_tune"].remedy and "no-such-account" in refused["nowhere"].detail
    # A dry run makes nothing, and counts for nothing.
    assert cluster.api.get(f"{cluster.path}/resourcequotas/small")["status"]["used"]["pods"] in ("0", "1")
    assert checks["probe"].ok
