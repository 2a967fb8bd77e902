"""The pods that ZenML would make of ``zenml.yaml``: built by its own functions, each field looked at."""

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from components.core.paths import REPOSITORY
from orchestration.settings import check_settings
from pipelines.names import STEPS
from tests.stand_in import new_home, start

BASE = REPOSITORY / "infra" / "kubernetes" / "base"
GPU = ("caption", "build_aux", "examine", "fine_tune", "select", "sample_bank", "sample_base", "explain")
CPU = ("scan", "validate", "split", "score", "report", "register")


def _cleaned(value: Any) -> Any:
    """Without nulls, which the API server passes over."""
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items() if item is not None}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value


NO_GPUS = {"STYLEFORGE_GPUS": "0", "STYLEFORGE_GPU_POOL": "cpu", "STYLEFORGE_GPU_IMAGE": "mine:1", "STYLEFORGE_IMAGE": "mine:1"}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Jobs by step: as the project has them, and on a cluster without GPUs."""
    folder = tmp_path_factory.mktemp("pods")
    code = (REPOSITORY / "tests" / "pipelines" / "render_pods.py").read_text()
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "STYLEFORGE_HOME": str(new_home(folder / "home"))}
    arguments = (str(REPOSITORY / "zenml.yaml"), json.dumps([{}, NO_GPUS]))
    done = start(code, *arguments, folder=folder, environment=variables, path=REPOSITORY).wait()
    assert done.returncode == 0, done.stderr
    return list(_cleaned(json.loads(done.stdout.splitlines()[-1])))


@pytest.fixture(scope="module")
def jobs(rendered: list[dict[str, Any]]) -> dict[str, Any]:
    return rendered[0]


def _pod(job: dict[str, Any]) -> dict[str, Any]:
    return dict(job["spec"]["template"]["spec"])


def _main(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = _pod(job)["containers"]
    return dict(container)


def _in_base(kind: str) -> dict[str, Any]:
    documents = [item for file in BASE.glob("*.yaml") for item in yaml.safe_load_all(file.read_text())]
    return {
        item["metadata"]["name"]: item for item in documents if item["kind"] == kind and item["metadata"].get("namespace") != "styleforge"
    }


def test_every_step_has_a_pod(jobs: dict[str, Any]) -> None:
    assert set(jobs) == {"", *GPU, *CPU}
    # Steps of other pipelines are told where to run too; what runs in the pod that starts them needs nothing.
    assert {"sample_shard", "join_pictures", "extract_shard", "score_joined"} <= set(check_settings(REPOSITORY / "zenml.yaml")["steps"])
    assert {*GPU, *CPU} <= set(STEPS)


# Schemas before 1.29 want onPodConditions in a rule about exit codes; the servers never did.
@pytest.mark.parametrize("version", ["1.29", "1.34"])
def test_the_jobs_are_valid(jobs: dict[str, Any], version: str) -> None:
    for job in jobs.values():
        kubernetes_validate.validate({"apiVersion": "batch/v1", "kind": "Job", **job}, version, strict=True)


def test_security_is_that_of_the_restricted_standard(jobs: dict[str, Any]) -> None:
    for name, job in jobs.items():
        pod, container = _pod(job), _main(job)
        assert pod["securityContext"] == {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001, "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }, name  # fmt: skip
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        }, name  # fmt: skip
        assert pod["enableServiceLinks"] is False and pod["restartPolicy"] == "Never"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all("hostPath" not in volume for volume in pod["volumes"])


def test_only_the_pod_that_starts_steps_has_a_token(jobs: dict[str, Any]) -> None:
    accounts = _in_base("ServiceAccount")
    for name, job in jobs.items():
        account = "styleforge-step" if name else "styleforge-runner"
        assert _pod(job)["serviceAccountName"] == account and account in accounts
        assert _pod(job)["automountServiceAccountToken"] is not bool(name)
        labels = job["spec"]["template"]["metadata"]["labels"]
        # The network policy lets only runners speak to the Kubernetes API.
        assert labels["app.kubernetes.io/component"] == ("step" if name else "runner")
    policy = _in_base("NetworkPolicy")["kubernetes-api"]["spec"]["podSelector"]["matchLabels"]
    assert policy == {"app.kubernetes.io/component": "runner"}


def test_secrets_come_from_kubernetes_and_only_to_the_step_that_needs_them(jobs: dict[str, Any]) -> None:
    for name, job in jobs.items():
        expected = [{"secretRef": {"name": "styleforge-sources", "optional": True}}] if name == "scan" else None
        assert _main(job).get("envFrom") == expected, name
        plain = {entry["name"]: entry["value"] for entry in _main(job)["env"] if "value" in entry}
        assert not [
            key for key in plain if any(word in key for word in ("KEY", "SECRET", "PASSWORD", "TOKEN")) and key != "TOKENIZERS_PARALLELISM"
        ]


def test_steps_on_gpus(jobs: dict[str, Any]) -> None:
    for name in GPU:
        pod, container = _pod(jobs[name]), _main(jobs[name])
        assert container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"] == "1"
        assert pod["nodeSelector"] == {"styleforge.dev/pool": "gpu"}
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert pod["priorityClassName"] == "styleforge-gpu"
        assert container["image"] == "styleforge:0.1.0-cuda"
        assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Gi"}} in pod["volumes"]
        assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    for name in (*CPU, ""):
        assert "nvidia.com/gpu" not in str(jobs[name]) and _pod(jobs[name])["priorityClassName"] == "styleforge-cpu"
        assert _main(jobs[name])["image"] == "styleforge:0.1.0-cpu" and "nodeSelector" not in _pod(jobs[name])
    assert {"styleforge-gpu", "styleforge-cpu"} <= set(_in_base("PriorityClass"))


def test_a_node_that_waits_for_a_secret_ends_no_run(jobs: dict[str, Any]) -> None:
    settings = check_settings(REPOSITORY / "zenml.yaml")["settings"]["orchestrator.kubernetes"]
    hopeless = {"InvalidImageName", "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"}
    assert set(settings["fail_on_container_waiting_reasons"]) == hopeless
    for name, job in jobs.items():
        taken = [entry["valueFrom"] for entry in _main(job)["env"] if "valueFrom" in entry]
        sources = [next(iter(source.values())) for source in taken if "resourceFieldRef" not in source]
        sources += [next(iter(source.values())) for source in _main(job).get("envFrom", [])]
        assert sources and all(source["optional"] for source in sources), name


def test_all_that_is_written_to_is_a_volume(jobs: dict[str, Any]) -> None:
    for name, job in jobs.items():
        pod, container = _pod(job), _main(job)
        places = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert places >= {"/var/lib/styleforge", "/app", "/tmp", "/var/cache/huggingface"}, name
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
        assert claims == ["hub-cache"] and set(claims) <= set(_in_base("PersistentVolumeClaim"))
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert environment["HOME"] == "/tmp" and environment["STYLEFORGE_HOME"] == "/var/lib/styleforge"
        assert environment["HF_HOME"] == "/var/cache/huggingface"
        threads = next(entry["valueFrom"] for entry in container["env"] if entry["name"] == "OMP_NUM_THREADS")
        assert threads == {"resourceFieldRef": {"containerName": "main", "resource": "requests.cpu"}}


def test_deadlines_retries_and_an_autoscaler_that_keeps_away(jobs: dict[str, Any]) -> None:
    for name, job in jobs.items():
        spec = job["spec"]
        assert spec["template"]["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
        assert _pod(job)["terminationGracePeriodSeconds"] == 30 and spec["ttlSecondsAfterFinished"] == 86400
        assert spec["activeDeadlineSeconds"] == {"": 86400, "fine_tune": 43200}.get(name, 14400 if name in GPU else 7200)
        assert spec["backoffLimit"] == (5 if name else 0)
        ignored, failed = spec["podFailurePolicy"]["rules"]
        # A disruption does not count; an error of ours is not tried again.
        assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        assert failed == {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [1]}}


def test_pods_fit_the_limit_range_and_the_quotas(jobs: dict[str, Any]) -> None:
    largest = _in_base("LimitRange")["runs"]["spec"]["limits"][0]["max"]
    for name, job in jobs.items():
        resources = _main(job)["resources"]
        for kind in ("cpu", "memory"):
            request, limit = (parse_quantity(resources[part][kind]) for part in ("requests", "limits"))
            assert 0 < request <= limit <= parse_quantity(largest[kind]), name
            pool = _in_base("ResourceQuota")[_pod(job)["priorityClassName"].replace("styleforge", "pool")]["spec"]["hard"]
            assert limit <= parse_quantity(pool[f"limits.{kind}"]) and request <= parse_quantity(pool[f"requests.{kind}"])


def test_a_cluster_without_gpus_is_a_matter_of_the_environment(rendered: list[dict[str, Any]]) -> None:
    _, jobs = rendered
    assert _main(jobs["fine_tune"])["resources"]["limits"]["nvidia.com/gpu"] == "0"
    assert _pod(jobs["fine_tune"])["nodeSelector"] == {"styleforge.dev/pool": "cpu"}
    assert {_main(job)["image"] for job in jobs.values()} == {"mine:1"}
