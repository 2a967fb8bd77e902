"""How much memory a block of code uses at its peak."""

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_EVERY_SECONDS = 0.05
# Children are searched for only once in so many looks, since a search goes through all processes of the machine.
_LOOKS_FOR_CHILDREN = 20


@dataclass
class Usage:
    """Peak memory in bytes: allocated on an accelerator, or, on the CPU, resident in this process and its children."""

    device: str = "cpu"
    peak_memory_bytes: int = 0


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure the block's peak memory; the result is complete when the block ends."""
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
    """Resident memory in bytes; 0 for a process that has ended."""
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _accelerator() -> Any:
    """torch's CUDA module if CUDA has been initialized, else None. Importing torch just to ask would take seconds."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None
