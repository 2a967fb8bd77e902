"""Many files at a time, none left out in silence. On a real S3 server: tests/orchestration/test_uploads.py and tests/cluster."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from steps.io.transfer import AT_ONCE, download, stored, upload
from tests.steps.io.test_artifacts import MemoryStore


class Meeting(MemoryStore):
    """Each file waits until a second one is on its way."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.together = threading.Barrier(2, timeout=20)

    def open(self, uri: str, mode: str) -> Any:
        self.together.wait()
        return super().open(uri, mode)


class Failing(MemoryStore):
    """Takes nothing, and counts how often it was asked."""

    asked = 0

    def open(self, uri: str, mode: str) -> Any:
        self.asked += 1
        # So long that whoever waits for the first one is told before the others are all tried.
        time.sleep(0.2)
        raise ConnectionError("the bucket is away")


def _write(folder: Path, names: list[str]) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return [Path(name) for name in names]


def test_files_travel_side_by_side(tmp_path: Path) -> None:
    names = [f"images/deep/{number}.png" for number in range(6)]
    store: Any = Meeting(tmp_path / "bucket")
    upload(store, tmp_path / "work", _write(tmp_path / "work", names), "memory://a")
    assert list(stored(store, "memory://a")) == names
    download(store, "memory://a", tmp_path / "back")
    assert {name: (tmp_path / "back" / name).read_bytes() for name in names} == {name: name.encode() for name in names}


def test_the_first_failure_ends_it(tmp_path: Path) -> None:
    names = [f"{number:03d}" for number in range(AT_ONCE * 20)]
    files = _write(tmp_path / "work", names)
    store: Any = Failing(tmp_path / "bucket")
    with pytest.raises(ConnectionError, match="away"):
        upload(store, tmp_path / "work", files, "memory://a")
    assert store.asked < len(names) / 2


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path: Path) -> None:
    store: Any = MemoryStore(tmp_path / "bucket")
    with pytest.raises(FileNotFoundError):
        download(store, "memory://gone", tmp_path / "back")
