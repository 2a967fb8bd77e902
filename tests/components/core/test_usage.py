import subprocess
import sys
import time

import numpy as np
import psutil

from components.core.usage import measured


def test_peak_memory_is_that_of_the_block() -> None:
    before = psutil.Process().memory_info().rss
    with measured() as usage:
        block = np.ones(40_000_000 // 8)
        del block
    assert usage.device == "cpu"
    assert before <= usage.peak_memory_bytes
    with measured() as larger:
        block = np.ones(200_000_000 // 8)
        assert block[0] == 1.0
        # The watcher looks every 50 ms.
        time.sleep(0.2)
    assert larger.peak_memory_bytes >= before + 150_000_000


def test_children_count() -> None:
    hold = "block = bytearray(200_000_000); print(block[0], flush=True); input()"
    with measured() as usage:
        before = psutil.Process().memory_info().rss
        child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.read(1)
        # The watcher looks for children every second.
        time.sleep(1.3)
        child.communicate(b"\n")
    assert usage.peak_memory_bytes >= before + 190_000_000
