"""What pods cost, and what shards gain: the pocket pipeline beside the same on this machine, and one shard beside four."""

import time
from typing import Any

import pytest

from tests.cluster.environment import Environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SHARDS = 4
NODE_CORES = 2
# 832 pictures of more than a second each, as those of a real base on a GPU. A pod costs 15 to 25 s of a core whatever it draws: with
# pictures of a quarter of a second, which is what pocket.yaml's twenty steps take, four shards need 0.8 of the time of one.
MANY = {"training__steps": 20, "sampling__repeats": 12, "sampling__steps": 100, "attention__prompts": 0, "scoring__bootstrap": 50}


def _timed(env: Environment, *arguments: str, **environment: str) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    result = dict(env.call(*arguments, **environment))
    return result, time.monotonic() - started


def test_the_pocket_pipeline_takes_at_most_thrice_the_local_time(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(env.config("whole"))
    local, here = _timed(env, "run", config, ZENML_STORE_URL="", ZENML_STORE_API_KEY="", STYLEFORGE_HOME=str(env.folder / "local"))
    # Training has both cores, as on this machine.
    pods, there = _timed(env, "run", config, STYLEFORGE_GPU_CPUS="1500m")
    again, cached = _timed(env, "run", config, STYLEFORGE_GPU_CPUS="1500m")
    with capsys.disabled():
        print(f"\nlocal {here:.0f} s, pods {there:.0f} s ({there / here:.1f}x), cached {cached:.0f} s", flush=True)
        print(f"steps {pods['seconds']}\nlocal {local['seconds']}", flush=True)
    assert set(again["cached"]) == set(pods["seconds"])
    assert there <= 3 * here and cached <= 90


def test_four_shards_on_two_cores_take_at_most_six_tenths_of_the_time(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(env.config("many", **MANY))
    # One core a pod, two pods at a time.
    cores = {"STYLEFORGE_GPU_CPUS": "800m"}
    whole, _ = _timed(env, "run", config, **cores)
    shared, _ = _timed(env, "run", config, "--shards", str(SHARDS), **cores)
    assert shared["scores"] == whole["scores"] and {"report", "register"} <= set(shared["cached"])
    one = _ended(env, whole["run_id"], "sample_bank") - _created(env, whole["run_id"], "sample_bank")
    # The pod that starts the others joins the shards; it then makes those of the next step.
    four = _created(env, shared["run_id"], "extract_shard") - _created(env, shared["run_id"], "sample_shard")
    assert not _pods(env, shared["run_id"], "join_pictures") and "join_pictures" in shared["seconds"]
    with capsys.disabled():
        print(f"\none shard {one:.0f} s, {SHARDS} shards on {NODE_CORES} cores {four:.0f} s ({four / one:.2f}x), joined", flush=True)
        print(f"steps {shared['seconds']}\none shard {whole['seconds']}", flush=True)
    assert four <= 0.6 * one


def _pods(env: Environment, run: str, step: str) -> list[Any]:
    pods = [pod for pod in env.pods(component="step") if pod.metadata.labels["run_id"] == run]
    return [pod for pod in pods if pod.metadata.labels["step_name"].startswith(step)]


def _created(env: Environment, run: str, step: str) -> float:
    return min(float(pod.metadata.creation_timestamp.timestamp()) for pod in _pods(env, run, step))


def _ended(env: Environment, run: str, step: str) -> float:
    """When the last container of a step ended, in seconds since 1970."""
    return max(float(pod.status.container_statuses[0].state.terminated.finished_at.timestamp()) for pod in _pods(env, run, step))
