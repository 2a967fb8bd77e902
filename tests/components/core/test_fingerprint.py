import os
from pathlib import Path

import pytest

from components.core import fingerprint as module
from components.core.content import digest_file
from components.core.fingerprint import fingerprint


def test_content_and_names_count_but_not_times_or_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("a")
    before = fingerprint(folder)
    os.utime(folder / "sub" / "a", (1, 1))
    (folder / ".DS_Store").write_text("x")
    assert fingerprint(folder) == before
    (folder / "sub" / "a").rename(folder / "sub" / "b")
    renamed = fingerprint(folder)
    assert renamed != before
    (folder / "sub" / "b").write_text("b")
    assert fingerprint(folder) not in (before, renamed)


def test_a_file_is_its_digest_and_a_damaged_memory_is_forgotten(tmp_path: Path, own_home: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert fingerprint(tmp_path / "file") == digest_file(tmp_path / "file")
    (own_home / "cache" / "digests.json").write_text("{half")
    assert fingerprint(tmp_path / "file") == digest_file(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        fingerprint(tmp_path / "none")


def test_large_files_are_read_once_until_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_SIZE", 4)
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return digest_file(path)

    monkeypatch.setattr(module, "digest_file", counted)
    large = tmp_path / "large"
    large.write_bytes(b"12345")
    before = fingerprint(large)
    assert fingerprint(large) == before
    assert len(read) == 1
    large.write_bytes(b"54321")
    assert fingerprint(large) != before
    assert len(read) == 2
