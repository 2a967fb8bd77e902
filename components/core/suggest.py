"""The nearest known name, for messages about unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name: object, known: Iterable[str]) -> str:
    """The known name that is most like ``name``; empty where none is known."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.0)), "")


def did_you_mean(name: object, known: Iterable[str], prefix: str = "") -> str:
    """`` (did you mean …?)``, ready to follow the unknown name; empty where none is known."""
    near = suggest(name, known)
    return f" (did you mean {prefix}{near}?)" if near else ""
