"""What pods cost, and what shares gain: the pocket pipeline beside the same on this machine, and one share beside four."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.cluster.house import House

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SHARDS = 4
NODE_CORES = 2
# So many pictures that drawing them takes minutes: a pod costs its ten seconds either way.
MANY = {"training__steps": 20, "sampling__repeats": 12, "attention__prompts": 0, "scoring__bootstrap": 50}


def _timed(home: House, *arguments: str, **environment: str) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    result = dict(home.call(*arguments, **environment))
    return result, time.monotonic() - started


def test_the_pocket_pipeline_takes_at_most_thrice_the_local_time(home: House, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(home.config("whole"))
    local, here = _timed(home, "run", config, ZENML_STORE_URL="", ZENML_STORE_API_KEY="", STYLEFORGE_HOME=str(home.folder / "local"))
    # Training has both cores, as on this machine.
    pods, there = _timed(home, "run", config, STYLEFORGE_GPU_CPUS="1500m")
    again, cached = _timed(home, "run", config, STYLEFORGE_GPU_CPUS="1500m")
    with capsys.disabled():
        print(f"\nlocal {here:.0f} s, pods {there:.0f} s ({there / here:.1f}x), cached {cached:.0f} s")
        print(f"steps {pods['seconds']}\nlocal {local['seconds']}")
    assert set(again["cached"]) == set(pods["seconds"])
    assert there <= 3 * here and cached <= 90


def test_four_shares_on_two_cores_take_at_most_six_tenths_of_the_time(home: House, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(home.config("many", **MANY))
    # One core a pod, two pods at a time.
    cores = {"STYLEFORGE_GPU_CPUS": "800m"}
    whole, _ = _timed(home, "run", config, **cores)
    shared, _ = _timed(home, "run", config, "--shards", str(SHARDS), **cores)
    assert shared["scores"] == whole["scores"] and {"report", "register"} <= set(shared["cached"])
    one = _span(home, whole["run_id"], ("sample_bank",))
    four = _span(home, shared["run_id"], ("sample_shard", "join_pictures"))
    with capsys.disabled():
        print(f"\none share {one:.0f} s, {SHARDS} shares on {NODE_CORES} cores {four:.0f} s ({four / one:.2f}x), joined")
    assert four <= 0.6 * one


def _span(home: House, run: str, steps: tuple[str, ...]) -> float:
    """Seconds from the first pod's creation to the last one's end."""
    pods = [pod for pod in home.pods(component="step") if pod.metadata.labels["run_id"] == run]
    mine = [pod for pod in pods if pod.metadata.labels["step_name"].startswith(steps)]
    assert mine, [pod.metadata.labels for pod in pods]
    ends = [pod.status.container_statuses[0].state.terminated.finished_at for pod in mine]
    return float((max(ends) - min(pod.metadata.creation_timestamp for pod in mine)).total_seconds())
