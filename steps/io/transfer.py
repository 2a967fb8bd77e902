"""Folders to and from an artifact store that is no local disk: many files at a time, since each costs a round trip."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zenml.artifact_stores import BaseArtifactStore

AT_ONCE = 16
"""Files on their way at a time. They wait for the network; s3fs and its like may be used from several threads."""
_CHUNK = 2**20


def upload(store: BaseArtifactStore, folder: Path, files: Iterable[Path], uri: str) -> None:
    """Write ``files``, paths relative to ``folder``, below ``uri``, in no particular order."""
    names = [file.as_posix() for file in files]
    for parent in sorted({f"{uri}/{name}".rsplit("/", 1)[0] for name in names}):
        store.makedirs(parent)

    def put(name: str) -> None:
        with open(folder / name, "rb") as source, store.open(f"{uri}/{name}", "wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)

    _all(put, names)


def download(store: BaseArtifactStore, uri: str, folder: Path) -> None:
    """Read all files below ``uri`` into a folder."""

    def get(name: str) -> None:
        with store.open(f"{uri}/{name}", "rb") as source, open(folder / name, "wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)

    names = list(stored(store, uri))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    _all(get, names)


def stored(store: BaseArtifactStore, uri: str, prefix: str = "") -> Iterator[str]:
    """Paths of all files below ``uri``, relative to it.

    Not by ``store.walk``: fsspec's passes over what it cannot list, and a bucket that is away for a moment would look like an empty one.
    """
    for name in sorted(str(item) for item in store.listdir(f"{uri}/{prefix}".rstrip("/"))):
        # Answered from the listing by s3fs and gcsfs, without a request of its own.
        if store.isdir(f"{uri}/{prefix}{name}"):
            yield from stored(store, uri, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


def _all(act: Callable[[str], None], names: list[str]) -> None:
    """Do it for each; the first that fails ends it, and those that have not begun are left."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for _ in pool.map(act, names):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
