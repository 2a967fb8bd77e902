"""The result of one check before a run: what was found, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The result of one check. If it fails, ``needed`` tells a fault from mere advice."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True
