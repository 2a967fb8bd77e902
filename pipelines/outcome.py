"""What a command came to, as plain data: results, and errors with the exit code that belongs to them."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Any

from components.errors import StorageError, StyleForgeError

_FULL = "free some space, then run the same command again: finished work is kept"


@dataclass
class RunResult:
    """What a run came to; :meth:`as_dict` is what ``--json`` prints."""

    status: str = "failed"
    run_id: str | None = None
    report: str | None = None
    model: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    base_scores: dict[str, Any] | None = None
    drift: dict[str, Any] | None = None
    context: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    total_seconds: float = 0.0
    error: Exception | None = None

    @property
    def exit_code(self) -> int:
        """0 done, 2 bad input, 3 refused, 4 service not reachable, 1 anything else."""
        return 0 if self.error is None else getattr(self.error, "exit_code", 1)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON; the error as its message and parts."""
        data = {key: value for key, value in vars(self).items() if key not in ("error", "context")}
        if self.error is not None:
            data["error"] = error_json(self.error)
        return data


def error_json(error: BaseException) -> dict[str, Any]:
    """An error as plain JSON: its kind and message, and for our own errors their parts."""
    data: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, StyleForgeError):
        data |= {"where": error.where, "problem": error.problem, "expected": error.expected, "remedy": error.remedy}
    return data


def known_error(error: BaseException) -> Exception:
    """The error of ours that lies behind ``error``, a full disk as :class:`StorageError`, else ``error`` itself."""
    current: BaseException | None = error
    # A chain may be a ring: Python lets an error be its own cause.
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, StyleForgeError):
            return current
        if isinstance(current, OSError) and current.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            place = str(current.filename or "STYLEFORGE_HOME")
            return StorageError(place, f"the disk refused the write ({current.strerror})", remedy=_FULL)
        if "database or disk is full" in str(current):
            return StorageError("ZenML's database", "the disk is full", remedy=_FULL)
        current = current.__cause__ or current.__context__
    return error if isinstance(error, Exception) else RuntimeError(str(error))
