"""Folders on the machine that starts a run, for steps that run on another: they travel through the artifact store, by content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.styledata.source import walk
from steps.io.transfer import download, upload

if TYPE_CHECKING:
    from zenml.artifact_stores import BaseArtifactStore

FOLDER = "styleforge/sources"
_WHOLE = ".whole"


def publish(folder: Path, digest: str) -> str:
    """Put a folder's pictures, whose content's digest is ``digest``, into the active artifact store, unless they are there.

    Hidden files stay behind. Gives where they are, for :func:`localize`.
    """
    store = _store()
    uri = f"{store.path.rstrip('/')}/{FOLDER}/{digest}"
    if not store.exists(f"{uri}/{_WHOLE}"):
        upload(store, folder, (Path(name) for name in walk(folder)), uri)
        # Last, since a store has no folder that appears whole.
        with store.open(f"{uri}/{_WHOLE}", "wb") as mark:
            mark.write(b"")
    return uri


def localize(location: str, into: Path) -> str:
    """A location that the pictures can be read from on this machine: downloaded if :func:`publish` put them into the artifact store."""
    store = _store()
    if "://" not in location or not location.startswith(f"{store.path.rstrip('/')}/{FOLDER}/"):
        return location
    download(store, location, into)
    return str(into)


def _store() -> BaseArtifactStore:
    from zenml.client import Client

    return Client().active_stack.artifact_store
