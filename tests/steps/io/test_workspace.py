import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from components.core.paths import REPOSITORY
from steps.io import workspace


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("STYLEFORGE_HOME", str(tmp_path))
    yield tmp_path
    workspace.release(())


def test_finished_work_goes_and_unfinished_stays(home: Path) -> None:
    out = workspace.scratch("score")
    out.mkdir()
    done = workspace.resumable("fine_tune", "checkpoints", key=[1])
    half = workspace.resumable("sample_bank", "pictures", key=[2])
    assert workspace.resumable("sample_bank", "pictures", key=[2]) == half
    for folder in (done, half):
        folder.mkdir()
        (folder / "file").write_text("")
    workspace.release(["fine_tune", "score"])
    assert list((home / "work").iterdir()) == []
    assert [item.name for part in ("checkpoints", "pictures") for item in (home / part).iterdir()] == [half.name]


def test_what_nobody_comes_back_for_is_swept(home: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = home / "work" / f"score-{process.pid}-abc"
    alive = home / "work" / f"score-{os.getppid()}-abc"
    old, new = (home / "checkpoints" / name for name in ("old", "new"))
    for folder in (dead, alive, old, new):
        folder.mkdir(parents=True)
    long_ago = time.time() - workspace.FORGOTTEN_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    workspace.sweep()
    assert [folder.exists() for folder in (dead, alive, old, new)] == [False, True, False, True]


def test_a_lock_has_one_holder(home: Path) -> None:
    """One who waits has the file open before it is released."""
    workspace.resumable("fine_tune", "checkpoints", key=[1])
    (lock,) = home.rglob("*.lock")
    waiting = os.open(lock, os.O_RDWR)
    try:
        workspace.release(())
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(Timeout):
            FileLock(lock).acquire(timeout=0)
    finally:
        os.close(waiting)


def test_a_second_process_waits_for_the_first(home: Path) -> None:
    workspace.resumable("fine_tune", "checkpoints", key=[1])
    program = "from steps.io import workspace; workspace.resumable('fine_tune', 'checkpoints', key=[1]); print('in')"
    other = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=os.environ | {"STYLEFORGE_HOME": str(home)}, stdout=subprocess.PIPE
    )
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(3)
    workspace.release(())
    assert other.wait(120) == 0
