"""Pictures that lie on this machine, for stacks whose steps run on others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.core.fingerprint import fingerprint
from components.styledata.source import is_url

PLACES = ("source", "reference", "pool")


def within_reach(plan: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The plan with its local folders of pictures put into the active stack's artifact store, each content once; its errors go through."""
    from steps.io.sources import publish

    local = {name: Path(place).expanduser() for name in PLACES if (place := plan["scan"].get(name)) and not is_url(place)}
    return {**plan, "scan": {**plan["scan"], **{name: publish(folder, fingerprint(folder)) for name, folder in local.items()}}}
