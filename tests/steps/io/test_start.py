import os
import subprocess
import sys
from pathlib import Path

from components.core.paths import REPOSITORY
from steps.io.start import EVICTED

# What ZenML's handler does, without its server: it raises one of two exceptions in the main thread. One process asks for all cases.
PROGRAM = """
import json, os, signal, sys, time
from zenml.exceptions import RunInterruptedException, RunStoppedException
from steps.io.start import leave_when_evicted

def case(raised, in_a_pod):
    def zenml(signum, frame):
        raise raised("...")
    signal.signal(signal.SIGTERM, zenml)
    os.environ.pop("KUBERNETES_SERVICE_HOST", None)
    if in_a_pod:
        os.environ["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"
    leave_when_evicted()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except Exception as error:
        print(type(error).__name__, flush=True)
        os._exit(1)

for raised, in_a_pod in ((RunInterruptedException, True), (RunStoppedException, True), (RunInterruptedException, False)):
    child = os.fork()
    if child == 0:
        case(raised, in_a_pod)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_sigterm(tmp_path: Path) -> None:
    environment = dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    # An exception may be taken by whatever the step is in just then; leaving cannot.
    assert done.stdout.split() == [str(EVICTED), "RunStoppedException", "1", "RunInterruptedException", "1"], done.stderr
