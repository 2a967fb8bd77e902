import dataclasses
from typing import Any

import pytest

from components.cluster.kubeflow import CONFIG_KEYS, SECRET_KEYS, Task, documents
from components.core.errors import ConfigError

SCAN = Task("scan", {}, "style_set", '{"a": 1}', "sf:1")
TUNE = Task("fine_tune", {"style_set": "scan"}, "model", "{}", "sf:1", after=("scan", "validate"))
POD = {
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2G", "nvidia.com/gpu": "2"}},
    "env": [
        {"name": "A", "value": 1}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
    ],
    "env_from": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "some"}}],
    "node_selectors": {"pool": "gpu"}, "tolerations": [{"key": "gpu", "operator": "Exists"}], "labels": {"a": "b"},
    "image_pull_secrets": ["registry"], "container_security_context": {"runAsNonRoot": True},
    "volumes": [
        {"name": "hub", "persistentVolumeClaim": {"claimName": "hub-cache"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ],
    "volume_mounts": [{"name": "hub", "mountPath": "/hub"}, {"name": "shm", "mountPath": "/dev/shm"}],
}  # fmt: skip


def of(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    pipeline, platform = documents("p", "d", [dataclasses.replace(SCAN, **changes)])
    container = pipeline["deploymentSpec"]["executors"]["exec-scan"]["container"]
    return container, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-scan"]


def test_steps_hang_together() -> None:
    pipeline, _ = documents("p", "d", [SCAN, TUNE])
    task = pipeline["root"]["dag"]["tasks"]["fine-tune"]
    assert task["dependentTasks"] == ["scan", "validate"] and task["cachingOptions"] == {}
    assert task["inputs"]["artifacts"] == {"style_set": {"taskOutputArtifact": {"producerTask": "scan", "outputArtifactKey": "style_set"}}}
    assert task["componentRef"] == {"name": "comp-fine-tune"}
    assert pipeline["components"]["comp-fine-tune"]["executorLabel"] == "exec-fine-tune"
    assert "dependentTasks" not in pipeline["root"]["dag"]["tasks"]["scan"]
    assert pipeline["root"]["dag"]["tasks"]["scan"]["inputs"]["parameters"]["parameters"]["runtimeValue"] == {"constant": '{"a": 1}'}


def test_a_pod_in_kubeflows_words() -> None:
    container, platform = of(pod=POD, deadline=60)
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert container["resources"] == {
        "cpuRequest": 0.5, "resourceCpuRequest": "500m", "memoryRequest": 1.073741824, "resourceMemoryRequest": "1Gi", "cpuLimit": 2.0,
        "resourceCpuLimit": "2", "memoryLimit": 2.0, "resourceMemoryLimit": "2G",
        "accelerator": {"type": "nvidia.com/gpu", "count": "2", "resourceType": "nvidia.com/gpu", "resourceCount": "2"},
    }  # fmt: skip
    single, whole = platform["secretAsEnv"]
    assert single["keyToEnv"] == [{"secretKey": "k", "envVar": "B"}] and single["optional"] and single["secretName"] == "s"
    assert [item["envVar"] for item in whole["keyToEnv"]] == list(SECRET_KEYS) and whole["optional"] and whole["secretName"] == "all"
    single, whole = platform["configMapAsEnv"]
    assert single["keyToEnv"] == [{"configMapKey": "k", "envVar": "C"}] and not single["optional"]
    assert [item["configMapKey"] for item in whole["keyToEnv"]] == list(CONFIG_KEYS)
    assert platform["nodeSelector"] == {"labels": {"pool": "gpu"}} and platform["tolerations"] == POD["tolerations"]
    assert platform["podMetadata"] == {"labels": {"a": "b"}} and platform["imagePullSecret"] == [{"secretName": "registry"}]
    assert platform["activeDeadlineSeconds"] == "60"
    assert [(item["constant"], item["mountPath"]) for item in platform["pvcMount"]] == [("hub-cache", "/hub")]
    assert platform["emptyDirMounts"] == [{"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "1Gi"}]


@pytest.mark.parametrize(
    ("pod", "named"),
    [
        ({"affinity": {"nodeAffinity": {}}}, "affinity"), ({"scheduler_name": "mine"}, "scheduler_name"),
        ({"volumes": [{"name": "a", "hostPath": {}}], "volume_mounts": [{"name": "a", "mountPath": "/a"}]}, "the volume a"),
    ],
)  # fmt: skip
def test_what_cannot_be_said(pod: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"{named} has no Kubeflow equivalent"):
        of(pod=pod)
