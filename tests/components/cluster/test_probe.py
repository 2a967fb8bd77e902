import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from components.cluster import probe as module
from components.cluster.client import Access, Cluster, connect
from components.cluster.in_cluster import MARK
from components.cluster.probe import LABEL, choose, job_for, outcome_checks, probe
from components.cluster.target import PodPlan, Services, Target
from tests.components.cluster.kube import NOTHING, FakeApi, Json, plan, pod, serve, status, write_kubeconfig

JOBS = "/apis/batch/v1/namespaces/ns/jobs"
PODS = "/api/v1/namespaces/ns/pods"
EVENTS = "/api/v1/namespaces/ns/events"
SECURITY = {"runAsNonRoot": True, "runAsUser": 10001}
MANIFEST: Json = {
    "metadata": {"labels": {"component": "step"}, "annotations": {"a": "b"}},
    "spec": {
        **pod(
            requests={"cpu": "2", "memory": "8Gi"}, limits={"cpu": "4", "memory": "12Gi"}, priorityClassName="cpu", securityContext=SECURITY
        ),
        "serviceAccountName": "step",
        "volumes": [{"name": "hub", "persistentVolumeClaim": {"claimName": "hub"}}, {"name": "t", "emptyDir": {}}],
    },
}
PLAN = PodPlan(("register",), MANIFEST)
TARGET = Target(
    stack="s", namespace="ns", pods=(PLAN,), services=Services(mlflow="http://mlflow:5000"), versions={"zenml": "1", "torch": "2"}
)
ANSWER: Json = {
    "python": "3.11", "missing": [], "other": {}, "code": {"ok": True, "said": "starts"}, "folders": {"home": {"ok": True, "said": "/h"}},
    "zenml": {"ok": True, "said": "z"}, "mlflow": {"ok": True, "said": "m"}, "mlflow_named": True, "artifacts": {"ok": True, "said": "s3"},
}  # fmt: skip


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.1)
    answers: dict[tuple[str, str], Any] = {("POST", JOBS): lambda api, body: (201, body), ("GET", EVENTS): (200, NOTHING)}
    with serve(FakeApi(answers)) as api:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", api.url)))
        yield api


def _cluster() -> Cluster:
    return connect(Access())


def _pod(state: Json, **status: Any) -> Json:
    statuses = [{"name": "main", "state": state}] if state else []
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main"}]}, "status": {"containerStatuses": statuses, **status}}


def _deleted(api: FakeApi) -> bool:
    (name,) = [body["metadata"]["name"] for method, _, body in api.seen if method == "POST"]
    return f"{JOBS}/{name}" in api.methods("DELETE")


def test_job_is_like_the_step_but_modest_and_harmless() -> None:
    before = copy.deepcopy(MANIFEST)
    job = job_for(TARGET, PLAN, 40)
    kubernetes_validate.validate(job, "1.27", strict=True)
    template = job["spec"]["template"]
    assert template["metadata"] == {"labels": {"component": "step", LABEL: "doctor"}, "annotations": {"a": "b"}}
    spec = template["spec"]
    assert (spec["serviceAccountName"], spec["securityContext"], spec["priorityClassName"]) == ("step", SECURITY, "cpu")
    assert spec["containers"][0]["resources"] == {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "4", "memory": "12Gi"}}
    assert spec["volumes"] == [{"name": "hub", "emptyDir": {}}, {"name": "t", "emptyDir": {}}]
    assert job["spec"]["backoffLimit"] == 0 and job["spec"]["activeDeadlineSeconds"] == 55
    assert before == MANIFEST


def test_requests_never_grow() -> None:
    small = PodPlan(("a",), {"spec": pod(limits={"cpu": "50m", "nvidia.com/gpu": "1"})})
    resources = job_for(TARGET, small, 40)["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "50m"}}


def test_which_pod_it_is_like() -> None:
    gpu, none, cpu = plan("register", limits={"nvidia.com/gpu": "1"}), plan("scan", image=""), plan("score")
    assert choose(Target("s", "n", pods=(gpu, none, cpu))) is cpu
    assert choose(Target("s", "n", pods=(cpu, PLAN))) is PLAN
    assert choose(Target("s", "n", pods=(gpu, none))) is gpu
    assert choose(Target("s", "n", pods=(none,))) is None


def test_answer_comes_out_of_the_log(api: FakeApi) -> None:
    calls = iter([NOTHING, {"items": [_pod({})]}, {"items": [_pod({"running": {}})]}])
    done = {"items": [_pod({"terminated": {"exitCode": 0}})]}
    api.answers["GET", PODS] = lambda api, body: (200, next(calls, done))
    api.answers["GET", f"{PODS}/p/log"] = (200, f"a warning\n{MARK}{json.dumps(ANSWER)}\n")
    outcome = probe(_cluster(), TARGET, PLAN, 5)
    assert outcome.answer == ANSWER
    assert outcome.image == "image:1"
    assert _deleted(api)


@pytest.mark.parametrize(
    ("state", "events", "words"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff"}},
            ["image:1: not found", "Error: ErrImagePull", "Back-off pulling"],
            "image:1: not found",
        ),
        ({"waiting": {"reason": "ErrImageNeverPull", "message": "not present with pull policy of Never"}}, [], "pull policy of Never"),
        ({"waiting": {"reason": "InvalidImageName", "message": "couldn't parse"}}, [], "InvalidImageName"),
        ({"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}}, [], 'secret "s" not found'),
        ({"waiting": {"reason": "ContainerCreating"}}, ["MountVolume.SetUp failed"], "MountVolume.SetUp failed; timed out"),
        ({"running": {}}, [], "it started; timed out"),
        ({}, [], "no node fits it: 0/1 nodes are available; timed out"),
    ],
)
def test_what_keeps_it_from_starting(api: FakeApi, state: Json, events: list[str], words: str) -> None:
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    api.answers["GET", PODS] = (200, {"items": [_pod(state, conditions=[] if state else [unplaced])]})
    api.answers["GET", EVENTS] = (200, {"items": [{"message": text, "lastTimestamp": str(n)} for n, text in enumerate(events)]})
    outcome = probe(_cluster(), TARGET, PLAN, 0.5)
    assert outcome.answer is None
    assert words in outcome.problem and outcome.remedy
    assert _deleted(api)


def test_refused_pod_is_known_before_time_is_out(api: FakeApi) -> None:
    api.answers["GET", PODS] = (200, NOTHING)
    api.answers["GET", EVENTS] = (200, {"items": [{"reason": "FailedCreate", "message": "violates PodSecurity"}]})
    outcome = probe(_cluster(), TARGET, PLAN, 30)
    assert outcome.problem == "the pod is refused: violates PodSecurity"
    assert outcome.seconds < 10


def test_a_log_without_an_answer(api: FakeApi) -> None:
    api.answers["GET", PODS] = (200, {"items": [_pod({"terminated": {"exitCode": 128, "reason": "StartError"}})]})
    api.answers["GET", f"{PODS}/p/log"] = (200, "exec: python: not found\n")
    assert "exit code 128): exec: python: not found" in probe(_cluster(), TARGET, PLAN, 5).problem
    api.answers["GET", f"{PODS}/p/log"] = status(403, "no")
    assert "pods/log" in probe(_cluster(), TARGET, PLAN, 5).remedy


@pytest.mark.parametrize(("code", "remedy"), [(403, "administrator"), (422, "zenml.yaml")])
def test_job_that_is_refused(api: FakeApi, code: int, remedy: str) -> None:
    api.answers["POST", JOBS] = status(code, "exceeded quota")
    outcome = probe(_cluster(), TARGET, PLAN, 5)
    assert outcome.problem == "exceeded quota"
    assert remedy in outcome.remedy


def test_interrupt_leaves_nothing_behind(api: FakeApi) -> None:
    cluster = _cluster()
    api.answers["GET", PODS] = (200, NOTHING)

    def stop(*args: Any, **query: Any) -> Any:
        raise KeyboardInterrupt

    cluster.items = lambda path, **query: stop() if path == PODS else []  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        probe(cluster, TARGET, PLAN, 5)
    assert _deleted(api)


def _checks(**changes: Any) -> dict[str, Any]:
    target = changes.pop("target", TARGET)
    outcome = module.Outcome(answer={**ANSWER, **changes}, image="image:1")
    return {check.name: check for check in outcome_checks(target, outcome)}


def test_good_answer() -> None:
    checks = _checks()
    assert all(check.ok for check in checks.values())
    assert list(checks) == [
        "probe", "packages in the image", "code in the image", "home in the pod", "ZenML from inside", "MLflow from inside",
        "artifact store from inside",
    ]  # fmt: skip


BAD = {"ok": False, "said": "refused"}


@pytest.mark.parametrize(
    ("changes", "name", "needed", "words"),
    [
        ({"missing": ["torch"]}, "packages in the image", True, "torch"),
        ({"other": {"zenml": "0"}}, "packages in the image", False, "zenml 0 (here 1)"),
        ({"code": BAD}, "code in the image", True, "make image"),
        ({"folders": {"home": BAD}}, "home in the pod", True, "fsGroup"),
        ({"zenml": BAD}, "ZenML from inside", True, "refused"),
        ({"zenml": {"ok": None, "said": "sqlite"}}, "ZenML from inside", True, "no pod can reach"),
        ({"zenml": None}, "ZenML from inside", True, "zenml login"),
        ({"mlflow": BAD}, "MLflow from inside", True, "MLFLOW_TRACKING_URI"),
        ({"mlflow": None}, "MLflow from inside", False, "MLFLOW_TRACKING_URI"),
        ({"mlflow": {"ok": None, "said": "sqlite"}}, "MLflow from inside", False, "sqlite"),
        ({"mlflow_named": False}, "MLflow from inside", False, "does not name it"),
        ({"artifacts": BAD}, "artifact store from inside", True, "bucket"),
        ({"artifacts": None}, "artifact store from inside", False, "register"),
    ],
)
def test_bad_answers(changes: Json, name: str, needed: bool, words: str) -> None:
    check = _checks(**changes)[name]
    assert not check.ok and check.needed is needed and check.remedy
    assert words in f"{check.detail} {check.remedy}"


def test_code_may_come_another_way_and_records_may_lie_on_the_node() -> None:
    local = Target("s", "ns", mounts_local_stores=True)
    assert _checks(code={"ok": None, "said": ""})["code in the image"].ok
    assert _checks(zenml={"ok": None, "said": ""}, target=local)["ZenML from inside"].ok


def test_no_answer_is_one_cross() -> None:
    (check,) = outcome_checks(TARGET, module.Outcome(problem="the image cannot be pulled", remedy="push it", image="image:1"))
    assert (check.ok, check.detail, check.remedy) == (False, "image:1: the image cannot be pulled", "push it")
