"""How a step begins: it says so, and sees to it that it leaves at once, and is made again, when its pod is taken away."""

import logging
import os
import signal
import threading
from types import FrameType

from zenml import get_step_context

_logger = logging.getLogger(__name__)
EVICTED = 143
"""Exit code of a process that SIGTERM ended. Exit code 1 is an error of ours, which is not tried again (zenml.yaml)."""


def announce() -> None:
    """ZenML's start hook: name the step, so that a quiet log says where the run is. Steps from the cache never start, and say nothing."""
    leave_when_evicted()
    _logger.info("step %s", get_step_context().step_run.name)


def leave_when_evicted() -> None:
    """In a pod, end with ``EVICTED`` on SIGTERM unless it means that the run was stopped.

    ZenML's own handler raises wherever the step is just then: that becomes an error of the step, with exit code 1, and any
    ``except`` on the way may take it. What the step has kept so far is what the next pod goes on from.
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
