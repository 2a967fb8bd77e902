"""Work folders in which steps build their results before these are stored, and their cleanup when the run ends."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from components.core.content import digest_value
from components.core.paths import state

_scratch: list[Path] = []
_resumable: dict[Path, tuple[str, FileLock]] = {}
# Unfinished work that has not been resumed for this long is removed.
FORGOTTEN_SECONDS = 30 * 24 * 3600
RESUMABLE_PARTS = ("checkpoints", "pictures")
_logger = logging.getLogger(__name__)


def scratch(step: str) -> Path:
    """Return a new path, which does not exist yet, for a result that is made in one go."""
    folder = Path(tempfile.mkdtemp(prefix=f"{step}-{os.getpid()}-", dir=state("work")))
    _scratch.append(folder)
    return folder / "out"


def resumable(step: str, part: str, *, key: object) -> Path:
    """Return a folder that depends only on ``part`` and ``key``, so that the work of an interrupted run is resumed.

    A second process with the same key waits until the first one has ended. The folder is no longer needed once ``step`` has
    succeeded; ``part`` is one of ``RESUMABLE_PARTS``.
    """
    folder = state(part) / digest_value(key)[:32]
    if folder not in _resumable:
        lock = FileLock(state("cache", "locks") / f"{part}-{folder.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _logger.warning("another run is doing the same work; waiting for it to end")
            lock.acquire()
        _resumable[folder] = (step, lock)
    return folder


def release(finished: Collection[str]) -> None:
    """Remove this process's work folders, except resumable work of steps that are not in ``finished``."""
    for folder in _scratch:
        shutil.rmtree(folder, ignore_errors=True)
    _scratch.clear()
    for folder, (step, lock) in _resumable.items():
        if step in finished:
            shutil.rmtree(folder, ignore_errors=True)
        # The lock file stays: a waiting process has it open and would otherwise lock a deleted file that no other process sees.
        lock.release()
    _resumable.clear()


def sweep() -> None:
    """Remove scratch folders of processes that no longer exist, and unfinished work that was abandoned long ago."""
    for folder in state("work").glob("*-*-*"):
        owner = folder.name.split("-")[-2]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
    for part in RESUMABLE_PARTS:
        for folder in state(part).iterdir():
            if folder.is_dir() and time.time() - max(item.stat().st_mtime for item in [folder, *folder.iterdir()]) > FORGOTTEN_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
