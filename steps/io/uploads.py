"""Sends local folders to steps that run on other machines, through the artifact store and addressed by content."""

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
    """Upload the plan's local picture folders, each content once, to the active artifact store; return the plan with the new places."""
    local = {name: Path(place).expanduser() for name in PLACES if (place := plan["scan"].get(name)) and not is_url(place)}
    return {**plan, "scan": {**plan["scan"], **{name: publish(folder, fingerprint(folder)) for name, folder in local.items()}}}


def publish(folder: Path, digest: str) -> str:
    """Upload a folder's pictures, whose content has this ``digest``, to the active artifact store unless they are there already.

    Hidden files are left out. Returns the location, for :func:`localize`.
    """
    store = _store()
    uri = f"{store.path.rstrip('/')}/{FOLDER}/{digest}"
    if not store.exists(f"{uri}/{_WHOLE}"):
        upload(store, folder, (Path(name) for name in walk(folder)), uri)
        # The marker comes last, since a store cannot create a folder atomically.
        with store.open(f"{uri}/{_WHOLE}", "wb") as mark:
            mark.write(b"")
    return uri


def localize(location: str, into: Path) -> str:
    """Return a location readable on this machine; pictures that :func:`publish` put into the artifact store are downloaded."""
    store = _store()
    if "://" not in location or not location.startswith(f"{store.path.rstrip('/')}/{FOLDER}/"):
        return location
    download(store, location, into)
    return str(into)


def _store() -> BaseArtifactStore:
    from zenml.client import Client

    return Client().active_stack.artifact_store
