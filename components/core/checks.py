"""One thing that was looked at before a run: what was found, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``needed`` tells a fault from advice."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True
