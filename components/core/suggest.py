"""The nearest known name, for messages about unknown ones."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], prefix: str = "") -> str:
    """`` (did you mean …?)``, to be put after the unknown name; empty if no name is known."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.0)
    return f" (did you mean {prefix}{near[0]}?)" if near else ""
