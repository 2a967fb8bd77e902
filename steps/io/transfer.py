"""Transfers folders to and from a remote artifact store, many files at a time because each takes a round trip."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zenml.artifact_stores import BaseArtifactStore

AT_ONCE = 16
"""Files transferred in parallel; the threads mostly wait for the network, and s3fs and similar libraries are thread-safe."""
_CHUNK = 2**20


def upload(store: BaseArtifactStore, folder: Path, files: Iterable[Path], uri: str) -> None:
    """Upload ``files``, given as paths relative to ``folder``, to below ``uri``, in no particular order."""
    names = [file.as_posix() for file in files]
    for parent in sorted({f"{uri}/{name}".rsplit("/", 1)[0] for name in names}):
        store.makedirs(parent)

    def put(name: str) -> None:
        with open(folder / name, "rb") as source, store.open(f"{uri}/{name}", "wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)

    _all(put, names)


def download(store: BaseArtifactStore, uri: str, folder: Path) -> None:
    """Download all files below ``uri`` into a folder."""

    def get(name: str) -> None:
        with store.open(f"{uri}/{name}", "rb") as source, open(folder / name, "wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK)

    names = list(stored(store, uri))
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    _all(get, names)


def stored(store: BaseArtifactStore, uri: str, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all files below ``uri``, relative to it.

    This does not use ``store.walk``, because fsspec's skips what it cannot list: a bucket that is briefly unreachable would look empty.
    """
    for name in sorted(str(item) for item in store.listdir(f"{uri}/{prefix}".rstrip("/"))):
        # s3fs and gcsfs answer this from the cached listing, without another request.
        if store.isdir(f"{uri}/{prefix}{name}"):
            yield from stored(store, uri, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


def _all(act: Callable[[str], None], names: list[str]) -> None:
    """Call ``act`` for each name in parallel; after a failure, calls that have not started are cancelled and the error is raised."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for _ in pool.map(act, names):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
