"""What befalls pods, nodes and services while a run is under way: the run ends as if nothing had happened, or says what is wrong."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.cluster.environment import Environment, client, minor_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
TRAIN = {
    "training__steps": 300, "training__checkpoint_every": 25, "sampling__limit": 12, "sampling__repeats": 1, "sampling__steps": 4,
    "scoring__bootstrap": 50, "attention__prompts": 0,
}  # fmt: skip
KILLS = 10


@pytest.fixture(scope="module")
def config(env: Environment) -> str:
    """A configuration whose run, undisturbed, is in the cache."""
    path = str(env.config("faults", **TRAIN))
    env.call("run", path)
    return path


@pytest.fixture
def run(env: Environment, config: str, tmp_path: Path) -> subprocess.Popen[str]:
    """One that has begun to train; what ``fine_tune`` makes is never taken from the cache."""
    data = yaml.safe_load((REPOSITORY / "zenml.yaml").read_text())
    data["steps"]["fine_tune"] |= {"enable_cache": False, "retry": {"max_retries": KILLS + 2}}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    process = env.start("run", config, "--settings", str(path), "--json")
    assert _wait(lambda: _training(env), process)
    return process


def _training(env: Environment) -> list[Any]:
    pods = [pod for pod in env.pods(component="step") if pod.metadata.labels.get("step_name") == "fine_tune"]
    return [pod for pod in pods if pod.status.phase == "Running" and not pod.metadata.deletion_timestamp]


def _wait(found: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 300.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end and (process is None or process.poll() is None):
        if result := found():
            return result
        time.sleep(0.3)
    return None


def _ends_as_if_undisturbed(process: subprocess.Popen[str]) -> None:
    """Every step after the training is taken from the cache, which knows weights by their content: they are the same."""
    stdout, stderr = process.communicate(timeout=1800)
    assert process.returncode == 0, f"{stdout[-3000:]}\n{stderr[-6000:]}"
    result = json.loads(stdout.splitlines()[-1])
    assert set(result["seconds"]) - set(result["cached"]) == {"fine_tune"}


def test_a_training_pod_killed_ten_times(env: Environment, run: subprocess.Popen[str]) -> None:
    core, moments, seen = client().client.CoreV1Api(), random.Random(1), set()
    for _ in range(KILLS):
        pods = _wait(lambda: [pod for pod in _training(env) if pod.metadata.name not in seen], run)
        if not pods:
            break
        seen.add(pods[0].metadata.name)
        time.sleep(moments.uniform(2.0, 25.0))
        core.delete_namespaced_pod(pods[0].metadata.name, env.namespace, grace_period_seconds=0)
    _ends_as_if_undisturbed(run)
    assert len(seen) == KILLS, "the training ended before it was killed often enough"


def test_a_training_process_killed_like_one_out_of_memory(env: Environment, run: subprocess.Popen[str]) -> None:
    time.sleep(20)
    inside = [item for item in psutil.process_iter(["cmdline", "uids"]) if _is_training(item.info)]
    if not inside:
        run.terminate()
        pytest.skip("the node's processes cannot be seen from here")
    for item in inside:
        item.send_signal(signal.SIGKILL)
    _ends_as_if_undisturbed(run)


def _is_training(info: dict[str, Any]) -> bool:
    return "fine_tune" in (info["cmdline"] or []) and info["uids"] is not None and info["uids"].real == 10001


def test_a_drained_node(env: Environment, run: subprocess.Popen[str]) -> None:
    time.sleep(15)
    core = client().client.CoreV1Api()
    (node,) = [item.metadata.name for item in core.list_node().items]
    core.patch_node(node, {"spec": {"unschedulable": True}})
    try:
        for pod in env.pods():
            if pod.status.phase == "Running":
                version = "policy/v1beta1" if minor_version() < 22 else "policy/v1"
                body = {"apiVersion": version, "kind": "Eviction", "metadata": {"name": pod.metadata.name, "namespace": env.namespace}}
                core.create_namespaced_pod_eviction(pod.metadata.name, env.namespace, body)
        assert _wait(lambda: not _training(env), run, 180.0)
    finally:
        core.patch_node(node, {"spec": {"unschedulable": None}})
    _ends_as_if_undisturbed(run)


def test_zenml_server_restarted(env: Environment, run: subprocess.Popen[str]) -> None:
    time.sleep(5)
    env.restart_zenml(pause=5.0)
    _ends_as_if_undisturbed(run)


def test_bucket_gone_for_a_while(env: Environment, run: subprocess.Popen[str]) -> None:
    time.sleep(15)
    env.proxy.closed.set()
    time.sleep(25)
    env.proxy.closed.clear()
    _ends_as_if_undisturbed(run)


def test_no_node_for_the_pool(env: Environment, tmp_path: Path) -> None:
    # With a seed of its own: what the other tests have drawn is in the cache, and needs no node.
    config = str(env.config("nowhere", **TRAIN, seed=1))
    data = yaml.safe_load((REPOSITORY / "zenml.yaml").read_text())
    for step in data["steps"].values():
        step["settings"]["orchestrator.kubernetes"]["active_deadline_seconds"] = 40
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    process = env.start("run", config, "--settings", str(path), STYLEFORGE_GPU_POOL="nowhere")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1, stderr[-4000:]
    # Those that were to begin: whether the Aux set is in the cache depends on the tests before this.
    lost = r"error: steps? ((build_aux|examine|fine_tune|sample_base)(, |: )){1,3}(its|their) pods? (was|were) lost"
    assert re.search(lost, stderr), stderr[-4000:]
    assert "doctor --stack" in stderr


def test_an_image_that_is_nowhere(env: Environment) -> None:
    process = env.start("run", str(env.config("faults", **TRAIN)), STYLEFORGE_IMAGE="nowhere.invalid/styleforge:none")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 1 and "nowhere.invalid/styleforge:none" in stderr, stderr[-4000:]


def test_no_kubeconfig(env: Environment, tmp_path: Path) -> None:
    missing = env.start("run", str(env.config("faults", **TRAIN)), KUBECONFIG=str(tmp_path / "none"))
    _, stderr = missing.communicate(timeout=300)
    assert missing.returncode == 2 and "kubeconfig" in stderr and "Set KUBECONFIG" in stderr, stderr[-4000:]
