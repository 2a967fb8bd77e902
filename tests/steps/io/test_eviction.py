from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.core.paths import REPOSITORY
from steps.io.eviction import EVICTED

# What ZenML's handler does, without its server: it raises one of two exceptions in the main thread.
PROGRAM = """
import signal, sys, time
from zenml.exceptions import RunInterruptedException, RunStoppedException
from steps.io.eviction import leave_when_evicted

def zenml(signum, frame):
    raise {"evicted": RunInterruptedException, "stopped": RunStoppedException}[sys.argv[1]]("...")

signal.signal(signal.SIGTERM, zenml)
leave_when_evicted()
print("ready", flush=True)
try:
    time.sleep(60)
except Exception as error:
    print(type(error).__name__, flush=True)
    sys.exit(1)
"""


@pytest.mark.parametrize(
    ("meant", "in_a_pod", "code", "said"),
    [("evicted", True, EVICTED, ""), ("stopped", True, 1, "RunStoppedException"), ("evicted", False, 1, "RunInterruptedException")],
)
def test_sigterm(tmp_path: Path, meant: str, in_a_pod: bool, code: int, said: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "KUBERNETES_SERVICE_HOST"} | {"PYTHONPATH": str(REPOSITORY)}
    if in_a_pod:
        environment["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, meant], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    # An exception may be taken by whatever the step is in just then; leaving cannot.
    assert process.communicate(timeout=60)[0].strip() == said
    assert process.returncode == code
