import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.cluster import client
from components.cluster.preflight import Report, examine_cluster
from components.cluster.target import Target
from tests.components.cluster.kube import NOTHING, PODS, VERSION, FakeApi, Json, admission, node, plan, serve, status, write_kubeconfig

PLACE = "/api/v1/namespaces/ns"
REVIEWS = "/apis/authorization.k8s.io/v1"
TARGET = Target(stack="s", namespace="ns", runner="runner", accounts=("runner",), pods=(plan("scan", image=""),))


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    allowed = (201, {"status": {"allowed": True}})
    answers: dict[tuple[str, str], Any] = {
        ("GET", "/version"): (200, VERSION),
        ("GET", PLACE): (200, {}),
        ("GET", "/api/v1/nodes"): (200, {"items": [node()]}),
        ("GET", "/apis/scheduling.k8s.io/v1/priorityclasses"): (200, NOTHING),
        ("GET", "/apis/storage.k8s.io/v1/storageclasses"): (200, NOTHING),
        ("POST", f"{REVIEWS}/selfsubjectaccessreviews"): allowed,
        ("POST", f"{REVIEWS}/subjectaccessreviews"): allowed,
        ("GET", f"{PLACE}/serviceaccounts"): (200, {"items": [{"metadata": {"name": "runner"}}]}),
        ("POST", PODS): admission(),
        ("GET", f"{PLACE}/persistentvolumeclaims"): (200, NOTHING),
    }
    with serve(FakeApi(answers)) as api:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", api.url)))
        yield api


def _failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if not check.ok and check.needed]


def test_sound_cluster_without_an_image_to_try(api: FakeApi) -> None:
    report = examine_cluster(TARGET)
    assert report.healthy and _failed(report) == []
    assert [check.name for check in report.checks][:3] == ["kubeconfig", "API server", "clock"]
    assert report.checks[-1].name == "probe" and "--image" in report.checks[-1].remedy


def test_missing_namespace_ends_it_without_a_probe(api: FakeApi) -> None:
    del api.answers["GET", PLACE]
    report = examine_cluster(Target(stack="s", namespace="ns", pods=(plan("scan"),)))
    assert _failed(report) == ["namespace"]
    assert api.methods("POST") == []


def test_account_without_rights(api: FakeApi) -> None:
    for key in list(api.answers):
        if key[1] != "/version":
            api.answers[key] = status(403, "forbidden")

    def no(api: FakeApi, body: Json) -> tuple[int, Json]:
        return 201, {"status": {"allowed": False}}

    api.answers["POST", f"{REVIEWS}/selfsubjectaccessreviews"] = no
    report = examine_cluster(Target(stack="s", namespace="ns", runner="runner", pods=(plan("scan"),)))
    assert _failed(report) == ["rights"]
    assert report.checks[-1].detail == "skipped: no permission to create Jobs"
    assert not report.unreachable


def test_asked_of_the_right_account(api: FakeApi) -> None:
    examine_cluster(TARGET)
    bodies = [body["spec"] for method, path, body in api.seen if path == f"{REVIEWS}/subjectaccessreviews"]
    assert {body["user"] for body in bodies} == {"system:serviceaccount:ns:runner"}
    logs = [body["resourceAttributes"] for body in bodies if body["resourceAttributes"].get("subresource") == "log"]
    assert logs == [{"namespace": "ns", "verb": "get", "group": "", "resource": "pods", "subresource": "log"}]


def test_no_kubeconfig_is_one_cross(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    report = examine_cluster(TARGET)
    assert [check.name for check in report.checks] == ["kubeconfig"]
    assert not report.healthy and not report.unreachable


def test_server_that_stalls_in_the_middle(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.3)

    def stall(api: FakeApi, body: Json) -> tuple[int, Json]:
        time.sleep(1)
        return 200, NOTHING

    api.answers["GET", "/api/v1/nodes"] = stall
    report = examine_cluster(TARGET)
    assert report.unreachable


def test_credentials_that_have_run_out(api: FakeApi) -> None:
    api.answers["GET", "/version"] = status(401, "Unauthorized")
    report = examine_cluster(TARGET)
    assert _failed(report) == ["API server"] and not report.unreachable
    assert "expired" in report.checks[-1].remedy


def test_probe_is_left_out_where_no_node_takes_it(api: FakeApi) -> None:
    report = examine_cluster(Target(stack="s", namespace="ns", pods=(plan("scan", requests={"cpu": "64"}),)))
    assert _failed(report) == ["nodes for scan"]
    assert report.checks[-1].detail == "skipped: no node fits it"
    assert "/apis/batch/v1/namespaces/ns/jobs" not in api.methods("POST")


# As Kubernetes 1.20 to 1.34 say it.
QUOTA = 'pods "a" is forbidden: exceeded quota: small, requested: limits.cpu=2, used: limits.cpu=0, limited: limits.cpu=1'
RANGE = 'pods "a" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi'
SECURITY = 'pods "a" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false'
WEBHOOK = 'admission webhook "policy.example.com" does not support dry run'


@pytest.mark.parametrize(
    ("code", "words", "needed", "remedy"),
    [
        (403, QUOTA, True, "more quota"), (403, RANGE, True, "pod settings"), (403, SECURITY, True, "pod settings"),
        (422, 'Pod "a" is invalid: spec.containers[0].image: Required value', True, "pod settings"), (400, WEBHOOK, False, "probe"),
    ],
)  # fmt: skip
def test_a_pod_that_admission_refuses(api: FakeApi, code: int, words: str, needed: bool, remedy: str) -> None:
    api.answers["POST", PODS] = admission(big=(code, words))
    pods = (plan("scan", image=""), plan("score", image="", priorityClassName="big"))
    checks = {check.name: check for check in examine_cluster(replace(TARGET, pods=pods)).checks if check.name.startswith("admission")}
    assert list(checks) == ["admission of score"]
    found = checks["admission of score"]
    assert words in found.detail and (found.ok, found.needed) == (False, needed) and remedy in found.remedy


def test_a_dry_run_that_may_not_be_made_is_no_fault(api: FakeApi) -> None:
    def answer(api: FakeApi, body: Json) -> tuple[int, Json]:
        asked = body["spec"]["resourceAttributes"]
        return 201, {"status": {"allowed": (asked["verb"], asked["resource"]) != ("create", "pods")}}

    api.answers["POST", f"{REVIEWS}/selfsubjectaccessreviews"] = answer
    report = examine_cluster(TARGET)
    (check,) = [check for check in report.checks if check.name == "admission"]
    assert not check.ok and not check.needed and report.healthy and PODS not in api.methods("POST")


def test_a_server_that_fails_in_the_dry_run(api: FakeApi) -> None:
    api.answers["POST", PODS] = status(500, "etcd is away")
    assert _failed(examine_cluster(TARGET)) == ["API server"]
