"""Folders on the machine that starts a run, for steps that run on another: they travel through the artifact store, by content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.fingerprint import fingerprint
from components.styledata.source import is_url, walk
from steps.io.transfer import download, upload

if TYPE_CHECKING:
    from zenml.artifact_stores import BaseArtifactStore

FOLDER = "styleforge/sources"
PLACES = ("source", "reference", "pool")
_WHOLE = ".whole"


def within_reach(plan: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The plan with its local folders of pictures put into the active stack's artifact store, each content once; its errors go through."""
    local = {name: Path(place).expanduser() for name in PLACES if (place := plan["scan"].get(name)) and not is_url(place)}
    return {**plan, "scan": {**plan["scan"], **{name: publish(folder, fingerprint(folder)) for name, folder in local.items()}}}


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
