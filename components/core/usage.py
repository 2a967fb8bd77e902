"""How much memory a piece of work took."""

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_EVERY_SECONDS = 0.05
# To find children, all processes of the machine are looked through.
_LOOKS_FOR_CHILDREN = 20


@dataclass
class Usage:
    """Peak memory in bytes: what an accelerator had allocated, or on the CPU what this process and its children had resident."""

    device: str = "cpu"
    peak_memory_bytes: int = 0


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the block; the numbers are there when it ends."""
    import psutil

    usage = Usage()
    process = psutil.Process()
    ended = threading.Event()

    def watch() -> None:
        children: list[psutil.Process] = []
        for look in itertools.count():
            if look % _LOOKS_FOR_CHILDREN == 0:
                children = process.children(recursive=True)
            usage.peak_memory_bytes = max(usage.peak_memory_bytes, sum(map(_resident, [process, *children])))
            if ended.wait(_EVERY_SECONDS):
                return

    if (cuda := _accelerator()) is not None:
        cuda.reset_peak_memory_stats()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield usage
    finally:
        ended.set()
        watcher.join()
        if (cuda := _accelerator()) is not None:
            usage.device, usage.peak_memory_bytes = cuda.get_device_name(), int(cuda.max_memory_allocated())


def _resident(process: Any) -> int:
    """Bytes; 0 of a process that has ended."""
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _accelerator() -> Any:
    """torch's CUDA module where the work can use it: importing torch for its own sake would cost seconds."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None
