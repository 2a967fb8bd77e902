import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import StorageError
from components.core.paths import link_or_copy
from steps.io.artifacts import Folder, FolderMaterializer, content_digest


class MemoryStore:
    """An artifact store that is no local folder: files by URI."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, uri: str) -> Path:
        return self.root / uri.removeprefix("memory://")

    def makedirs(self, uri: str) -> None:
        self._path(uri).mkdir(parents=True, exist_ok=True)

    def open(self, uri: str, mode: str) -> Any:
        return open(self._path(uri), mode)

    def listdir(self, uri: str) -> list[str]:
        return [item.name for item in self._path(uri).iterdir()]

    def isdir(self, uri: str) -> bool:
        return self._path(uri).is_dir()


def _folder(path: Path, files: dict[str, bytes]) -> Folder:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return Folder(path)


FILES = {"a.txt": b"a", "images/1.png": b"one", "deep/er/x.bin": bytes(10), "report.html": b"<p>", "training/timing.json": b"1"}


def test_local_store_links_and_loads_without_copying(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "work", FILES)
    materializer = FolderMaterializer(str(tmp_path / "store"))
    materializer.save(folder)
    loaded = FolderMaterializer(str(tmp_path / "store")).load(Folder)
    assert loaded.files() == folder.files()
    assert (loaded.path / "images" / "1.png").samefile(folder.path / "images" / "1.png")
    later = _folder(tmp_path / "later", FILES | {"training/timing.json": b"2"})
    assert loaded.digest == folder.digest == materializer.compute_content_hash(folder) == later.digest  # Times are no content.
    assert materializer.extract_metadata(folder) == {"files": 5, "bytes": 18, "digest": folder.digest}
    shown = materializer.save_visualizations(folder)
    names = {uri.removeprefix(f"{tmp_path}/store/data/"): kind.value for uri, kind in shown.items()}
    assert names == {"report.html": "html", "images/1.png": "image"} and all(Path(uri).is_file() for uri in shown)


def test_remote_store_is_uploaded_and_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = MemoryStore(tmp_path / "bucket")
    folder = _folder(tmp_path / "work", FILES)
    FolderMaterializer("memory://run/model", store).save(folder)
    materializer = FolderMaterializer("memory://run/model", store)
    materializer.expected_content_hash = folder.digest
    loaded = materializer.load(Folder)
    assert {path.as_posix(): (loaded.path / path).read_bytes() for path in loaded.files()} == FILES
    monkeypatch.setattr(MemoryStore, "open", None)
    assert materializer.load(Folder).path == loaded.path


def test_a_step_that_made_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no folder"):
        FolderMaterializer(str(tmp_path / "store")).save(Folder(tmp_path / "none"))


def test_a_full_disk_leaves_nothing_half_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "work", FILES)

    def full(source: Path, target: Path) -> None:
        if source.name == "report.html":
            raise OSError(28, "No space left on device")
        link_or_copy(source, target)

    monkeypatch.setattr("steps.io.artifacts.link_or_copy", full)
    with pytest.raises(StorageError, match="No space left"):
        FolderMaterializer(str(tmp_path / "store")).save(folder)
    assert not (tmp_path / "store" / "data").exists()


def test_copies_where_links_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("a")

    def refuse(source: Any, target: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(tmp_path / "a", tmp_path / "b" / "c")
    assert (tmp_path / "b" / "c").read_text() == "a"
    assert not (tmp_path / "b" / "c").samefile(tmp_path / "a")


names = st.text("abc", min_size=1, max_size=3).map(lambda name: f"{name}.bin")


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(names, st.binary(max_size=4), max_size=4), st.dictionaries(names, st.binary(max_size=4), max_size=4))
def test_digests_are_equal_exactly_when_the_files_are(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("digest")
    digests = [content_digest(_folder(root / str(index), files).path) for index, files in enumerate((one, two))]
    assert (digests[0] == digests[1]) == (one == two)
