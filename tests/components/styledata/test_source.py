import contextlib
import zipfile
from pathlib import Path

import fsspec
import pytest

from components.core.errors import InputError, ServiceUnreachable, StyleForgeError
from components.styledata.source import open_source, walk


@pytest.fixture
def bucket() -> str:
    memory = fsspec.filesystem("memory")
    for name in ("a.png", "sub/b.png", ".hidden", "sub/.cache/c.png"):
        memory.pipe(f"/bucket/style/{name}", name.encode())
    yield "memory://bucket/style"
    memory.rm("/bucket", recursive=True)


def test_a_local_folder_is_used_as_it_is(tmp_path: Path) -> None:
    assert open_source(str(tmp_path), tmp_path / "into") == tmp_path and not (tmp_path / "into").exists()
    (tmp_path / "a.zip").write_bytes(b"x")
    for name, message in (("gone", "no such folder"), ("a.zip", r"is a file.*zip://")):
        with pytest.raises(InputError, match=message):
            open_source(str(tmp_path / name), tmp_path / "into")


def test_a_url_is_downloaded_whole(tmp_path: Path, bucket: str) -> None:
    folder = open_source(bucket, tmp_path / "into")
    assert list(walk(folder)) == ["a.png", "sub/b.png"]
    assert (folder / "sub/b.png").read_bytes() == b"sub/b.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["into"]


def test_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "style.zip", "w") as archive:
        archive.writestr("style/a.png", b"1")
        archive.writestr("style/sub/b.png", b"2")
    folder = open_source(f"zip://style::{tmp_path / 'style.zip'}", tmp_path / "into")
    assert list(walk(folder)) == ["a.png", "sub/b.png"]


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "style.zip", "w") as archive:
        archive.writestr("style/../../evil.png", b"1")
        archive.writestr("style/a.png", b"1")
    with contextlib.suppress(InputError):
        assert list(walk(open_source(f"zip://style::{tmp_path / 'style.zip'}", tmp_path / "deep/into"))) == ["a.png"]
    assert not list(tmp_path.rglob("evil.png"))


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "memory://nothing/here"])
def test_unknown_protocol_and_empty_place(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(url, tmp_path / "into")
    assert caught.value.where == url
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "expected", "attempts"),
    [
        (ConnectionError("no route"), ServiceUnreachable, 3),
        (PermissionError("denied"), ServiceUnreachable, 1),
        (FileNotFoundError("gone"), InputError, 1),
        (RuntimeError("client"), ServiceUnreachable, 1),
    ],
)
def test_a_store_that_fails_midway_leaves_nothing(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: type[StyleForgeError], attempts: int
) -> None:
    memory, calls = fsspec.filesystem("memory"), []
    true_get = type(memory).get_file

    def get_file(self: object, remote: str, local: str, **options: object) -> None:
        if remote.endswith("a.png"):
            return true_get(self, remote, local, **options)
        calls.append(remote)
        raise error

    monkeypatch.setattr(type(memory), "get_file", get_file)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(expected) as caught:
        open_source(bucket, tmp_path / "into")
    assert caught.value.where == bucket and len(calls) == attempts
    assert not list(tmp_path.iterdir())
