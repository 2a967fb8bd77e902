"""The result of one check before a run: what was found, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The result of one check. ``needed`` says whether a failure is a fault or mere advice."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    needed: bool = True
