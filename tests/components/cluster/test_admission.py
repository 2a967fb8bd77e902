from typing import Any

import pytest

from components.cluster.admission import alike, claim_check, clock, cluster_checks, node_check
from components.cluster.inventory import Inventory, NodeGroup, Trial, node_groups
from components.cluster.nodes import parse_pool
from components.cluster.target import PodPlan, Target
from components.core.checks import Check
from tests.components.cluster.kube import Json, node, plan, pod

GPU = {"limits": {"nvidia.com/gpu": "1"}, "nodeSelector": {"pool": "gpu"}}


def _inventory(**changes: Any) -> Inventory:
    sound: dict[str, Any] = {
        "namespace": True, "accounts": ["default", "runner", "step"], "priorities": ["gpu"], "nodes": [node()], "groups": [],
        "trials": [Trial(plan())], "claims": [], "classes": [], "denied_runner": [],
    }  # fmt: skip
    return Inventory(**{**sound, **changes})


def _checks(found: Inventory, *pods: PodPlan, **changes: Any) -> dict[str, Check]:
    sound = {"stack": "s", "namespace": "ns", "runner": "runner", "accounts": ("runner", "step"), "pods": pods or (plan(),)}
    return {check.name: check for check in cluster_checks(Target(**{**sound, **changes}), found)}


def test_sound_cluster() -> None:
    checks = _checks(_inventory(), plan("scan", priorityClassName="gpu"))
    assert all(check.ok and not check.remedy for check in checks.values())
    names = ["namespace", "rights", "rights of runner", "service accounts", "priority classes", "nodes for scan", "admission"]
    assert list(checks) == names


@pytest.mark.parametrize(
    ("changes", "name", "needed", "words"),
    [
        ({"namespace": False}, "namespace", True, "kubectl create namespace ns"),
        ({"denied": ["create jobs"]}, "rights", True, "may not create jobs"),
        ({"denied_useful": ["create pods"]}, "further rights", False, "may not create pods"),
        ({"denied_runner": ["list pods"]}, "rights of runner", True, "may not list pods"),
        ({"accounts": ["runner"]}, "service accounts", True, "missing: step"),
        ({"accounts": None}, "service accounts", False, "no permission to list"),
        ({"priorities": []}, "priority classes", True, "missing: gpu"),
        ({"priorities": None}, "priority classes", False, "no permission to list"),
        ({"nodes": None}, "nodes", False, "no permission to list"),
        ({"nodes": []}, "nodes for scan", True, "none of 0 fits"),
        ({"trials": None}, "admission", False, "may not create pods"),
    ],
)
def test_each_cross_has_a_remedy(changes: Json, name: str, needed: bool, words: str) -> None:
    check = _checks(_inventory(**changes), plan("scan", priorityClassName="gpu"))[name]
    assert not check.ok and check.needed is needed
    assert words in f"{check.detail} {check.remedy}"
    assert check.remedy


def test_of_a_missing_namespace_or_account_nothing_more_is_said() -> None:
    assert _checks(_inventory(namespace=None))["namespace"].ok
    assert list(_checks(_inventory(namespace=False, accounts=None))) == ["namespace", "nodes for scan"]
    lacking = _checks(_inventory(accounts=["step"], denied_runner=["create jobs"]))
    assert "rights of runner" not in lacking and not lacking["service accounts"].ok


@pytest.mark.parametrize(("denied", "ok"), [([], True), (["create rolebindings"], False)])
def test_zenml_makes_its_own_account(denied: list[str], ok: bool) -> None:
    check = _checks(_inventory(denied_accounts=denied), runner=None, makes_account=True, accounts=())["service accounts"]
    assert check.ok is ok
    assert "zenml-service-account" in check.detail
    assert "service accounts" not in _checks(_inventory(accounts=["zenml-service-account"]), runner=None, makes_account=True, accounts=())


def test_pods_that_ask_the_same_are_one_row() -> None:
    other = PodPlan(("split",), {"metadata": {"labels": {"a": "b"}}, "spec": {**pod(), "serviceAccountName": "x"}})
    assert [found.steps for found in alike([plan("scan"), plan("fine_tune", **GPU), other])] == [("scan", "split"), ("fine_tune",)]
    assert plan("a", "b", "c", "d", "e").name == "a, b, c and 2 more"


def test_no_gpu_node_and_no_autoscaler() -> None:
    check = node_check(plan("fine_tune", **GPU), [node("cpu-1"), node("gpu-1", labels={"pool": "gpu"})], [], [])
    assert not check.ok and check.needed
    assert "none of 2 fits; the closest is gpu-1, which has no nvidia.com/gpu. No autoscaler" in check.detail
    assert "device plugin" in check.remedy


def test_remedy_declares_a_pool_that_fits() -> None:
    wanted = plan("fine_tune", **GPU)
    remedy = node_check(wanted, [], [], []).remedy
    declared = remedy.partition("--assume-pool '")[2].rstrip("'")
    assert node_check(wanted, [], [parse_pool(declared)], []).ok


def test_assumed_pool_that_does_not_fit_says_why() -> None:
    taints = [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]
    check = node_check(plan("fine_tune", **GPU), [], [node("assumed", labels={"pool": "gpu"}, taints=taints, gpu="1")], [])
    assert not check.ok
    assert "the assumed pool assumed has the taint nvidia.com/gpu:NoSchedule, which is not tolerated" in check.detail


@pytest.mark.parametrize(("size", "needed"), [(0, False), (3, True)])
def test_autoscaler_with_room_is_advice_only(size: int, needed: bool) -> None:
    check = node_check(plan("fine_tune", **GPU), [node()], [], [NodeGroup("gpu", size, 3)])
    assert not check.ok and check.needed is needed
    assert ("gpu (0 of 3)" in check.detail) is not needed


TEXT = """Cluster-autoscaler status at 2024-05-01 10:00:00 +0000 UTC:
Cluster-wide:
  Health:      Healthy (ready=3 unready=0 notStarted=0 longNotStarted=0 registered=3 longUnregistered=0)

NodeGroups:
  Name:        cpu-pool
  Health:      Healthy (ready=3 unready=0 registered=3 cloudProviderTarget=3 (minSize=1, maxSize=3))
  ScaleUp:     NoActivity (ready=3 cloudProviderTarget=3)

  Name:        gpu-pool
  Health:      Healthy (ready=0 unready=0 registered=0 cloudProviderTarget=0 (minSize=0, maxSize=4))
"""
NEWER = """time: 2024-05-01 10:00:00 +0000 UTC
autoscalerStatus: Running
nodeGroups:
- name: cpu-pool
  health: {status: Healthy, cloudProviderTarget: 3, minSize: 1, maxSize: 3}
- name: gpu-pool
  health: {status: Healthy, minSize: 0, maxSize: 4}
"""


@pytest.mark.parametrize("status", [TEXT, NEWER])
def test_both_forms_of_the_autoscalers_status(status: str) -> None:
    assert node_groups(status) == [NodeGroup("cpu-pool", 3, 3), NodeGroup("gpu-pool", 0, 4)]


@pytest.mark.parametrize("status", ["", "Initializing", "nodeGroups:", "a: [b"])
def test_status_without_pools(status: str) -> None:
    assert node_groups(status) == []


CLASSES = [
    {"metadata": {"name": "late"}, "volumeBindingMode": "WaitForFirstConsumer"},
    {"metadata": {"name": "now", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "volumeBindingMode": "Immediate"},
]


def _claim(phase: str = "Pending", storage: str | None = None) -> Json:
    return {"metadata": {"name": "hub"}, "spec": {"storageClassName": storage} if storage else {}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("claim", "ok", "words"),
    [
        (_claim("Bound", "now"), True, "bound"),
        (_claim("Pending", "late"), True, "first pod"),
        (_claim("Pending", "now"), False, "describe pvc hub"),
        (_claim("Pending", "gone"), False, "one of: late, now"),
        (_claim("Pending"), False, "no storage class"),
        (_claim("Lost"), False, "lost"),
        (None, False, "no such claim"),
    ],
)
def test_claims(claim: Json | None, ok: bool, words: str) -> None:
    check = claim_check("hub", claim, "ns", CLASSES)
    assert check.ok is ok and check.needed
    assert words in f"{check.detail} {check.remedy}"


def test_volumes_of_all_pods_are_looked_at_once() -> None:
    hub = {"name": "h", "persistentVolumeClaim": {"claimName": "hub"}}
    scratch = {"name": "s", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "gone"}}}}
    default = {"name": "d", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
    pods = (plan("scan", volumes=[hub, {"name": "t", "emptyDir": {}}]), plan("score", volumes=[hub, scratch, default]))
    checks = _checks(_inventory(claims=[_claim("Bound")], classes=CLASSES), *pods)
    found = {name: check.ok for name, check in checks.items() if "volume" in name or "storage" in name}
    assert found == {"volume hub": True, "storage class (default)": True, "storage class gone": False}
    unseen = _checks(_inventory(claims=None, classes=None), *pods)
    assert not unseen["volumes"].needed and not unseen["storage class gone"].needed


def test_clock() -> None:
    assert clock(0.2).ok
    assert "ahead of" in clock(-90).detail
    late = clock(90)
    assert not late.ok and not late.needed and "90 s behind" in late.detail
