"""The pocket pipeline as pods, with few steps: what CI runs where a cluster can be brought up."""

import time
from pathlib import Path

import pytest

from tests.cluster.environment import Environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
FEW = {
    "training__steps": 20, "training__checkpoint_every": 10, "sampling__limit": 12, "sampling__repeats": 1, "sampling__steps": 4,
    "scoring__bootstrap": 50, "attention__prompts": 1,
}  # fmt: skip


def test_a_run_as_pods_and_its_repeat_from_the_cache(env: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(env.config("short", **FEW))
    started = time.monotonic()
    first = env.call("run", config)
    once = time.monotonic() - started
    assert first["status"] == "completed" and first["cached"] == []
    assert first["model"]["name"] == "styleforge-anime"
    assert Path(first["report"]).is_file()
    # A Job for each step, all of them done; nothing ran in this process.
    phases = [pod.status.phase for pod in env.pods(component="step")]
    assert len(phases) == len(first["seconds"]) and set(phases) == {"Succeeded"}
    started = time.monotonic()
    again = env.call("run", config)
    twice = time.monotonic() - started
    assert set(again["cached"]) == set(first["seconds"])
    assert len(env.pods(component="step")) == len(phases), "a step of the cache got a pod"
    with capsys.disabled():
        print(f"\nprepared {env.times['prepare']:.0f} s, run {once:.0f} s, again {twice:.0f} s; steps {first['seconds']}")
