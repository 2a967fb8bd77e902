"""What a step does when it starts: log its name, and prepare to exit at once and be retried if its pod is evicted."""

import logging
import os
import signal
import threading
from types import FrameType

from zenml import get_step_context

_logger = logging.getLogger(__name__)
EVICTED = 143
"""Exit code of a process ended by SIGTERM. Exit code 1 means an error of ours, which is not retried (zenml.yaml)."""


def announce() -> None:
    """Log the step's name when ZenML starts it, so that a quiet log shows the progress; cached steps never start and log nothing."""
    leave_when_evicted()
    _logger.info("step %s", get_step_context().step_run.name)


def leave_when_evicted() -> None:
    """In a pod, make SIGTERM exit with ``EVICTED``, unless it means that the run was stopped.

    ZenML's own handler raises an exception wherever the step happens to be. That exception would become an error of the step, with
    exit code 1, or an ``except`` on the way might swallow it. The next pod continues from what the step has kept so far.
    """
    if not os.environ.get("KUBERNETES_SERVICE_HOST") or threading.current_thread() is not threading.main_thread():
        return
    from zenml.exceptions import RunInterruptedException

    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return

    def leave(signum: int, frame: FrameType | None) -> None:
        try:
            before(signum, frame)
        except RunInterruptedException:
            os._exit(EVICTED)

    signal.signal(signal.SIGTERM, leave)
