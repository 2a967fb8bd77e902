"""Patience: a training ends early once the candidate that would be chosen is a number of candidates old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from components.diffusion.models.bundle import Bundle


class Watch(Protocol):
    """Judges candidates as they are made. It is sent to other processes, so it must be picklable."""

    def look(self, bundle: Bundle, step: int, folder: Path) -> dict[str, Any]:
        """Draw pictures with a family that is in training into an empty ``folder``, and score them. Returns a record that JSON can hold."""

    def is_over(self, records: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a training may end, given its candidates' records, oldest first."""
