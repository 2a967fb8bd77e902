"""Errors as part of the interface: one message that says where the problem is, what was found, what was expected and what to do."""

import contextlib
import errno
import functools
from collections.abc import Iterator
from typing import Any


class StyleForgeError(Exception):
    """Base of every error that StyleForge raises on purpose.

    ``where`` is the file, field or service at fault, ``problem`` what was found there, ``expected`` what would have been right, ``remedy``
    what the reader can do next. ``exit_code`` is the command's exit status and ``status`` the word in its JSON.
    """

    exit_code = 1
    status = "failed"

    def __init__(self, where: str, problem: str, *, expected: str = "", remedy: str = "") -> None:
        self.where, self.problem, self.expected, self.remedy = where, problem, expected, remedy
        message = f"{where}: {problem}"
        if expected:
            message += f"; expected {expected}"
        if remedy:
            # After a list, the advice goes on a line of its own.
            message += ("\n" if "\n" in problem else ". ") + remedy[0].upper() + remedy[1:]
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the four parts when the error is pickled for another process."""
        return functools.partial(type(self), expected=self.expected, remedy=self.remedy), (self.where, self.problem)


class InputError(StyleForgeError):
    """A file, folder or argument given by the user cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A field of the run configuration is unknown, of the wrong type or out of bounds.

    ``usable`` is the configuration without the wrong fields, if that is valid: further checks can still be made on it.
    """

    usable: Any = None


class Problems:
    """Independent errors in the user's input: collected one by one, then raised as one."""

    def __init__(self) -> None:
        self.found: list[InputError] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Collect an :class:`InputError` raised in the block; let any other error through."""
        try:
            yield
        except InputError as error:
            self.found.append(error)

    def raise_all(self) -> None:
        """Raise what was collected: one error as it is, several as a single :class:`InputError` with one line each."""
        messages = list(dict.fromkeys(str(error) for error in self.found))
        if len(messages) == 1:
            raise self.found[0]
        if messages:
            raise InputError(f"{len(messages)} problems", "".join(f"\n- {message}" for message in messages)) from self.found[0]


class GateRefused(StyleForgeError):
    """A gate (data validation or promotion) rejected valid input."""

    exit_code = 3
    status = "refused"


class ServiceUnreachable(StyleForgeError):
    """A required service (MLflow, ZenML, a bucket) does not answer."""

    exit_code = 4


class TrainingDiverged(StyleForgeError):
    """The loss became NaN or infinite."""


class ProcessLost(StyleForgeError):
    """One of several cooperating processes died."""


class StorageError(StyleForgeError):
    """Writing to disk failed: full, read-only or no permission."""


FULL = "free some space, then run the same command again: finished work is kept"
"""What to do about a full disk."""
_DATABASE = "ZenML's database"


def error_json(error: BaseException) -> dict[str, Any]:
    """An error as plain JSON: its type and message and, for our own errors, their parts."""
    data: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, StyleForgeError):
        data |= {"where": error.where, "problem": error.problem, "expected": error.expected, "remedy": error.remedy}
    return data


def is_locked(error: BaseException) -> bool:
    """Whether SQLite reports a locked database: another process has been writing to it for longer than this one waits."""
    return "database is locked" in str(error)


def database_locked(where: str, shared: str = "STYLEFORGE_HOME") -> ServiceUnreachable:
    """The error for a locked database that two runs share because of the setting ``shared``."""
    return ServiceUnreachable(
        where, f"the database is locked: another run uses the same {shared} and is writing to it",
        remedy=f"wait until that run is done, then run the same command again: finished work is kept; or give this one another {shared}",
    )  # fmt: skip


def known_error(error: BaseException) -> Exception:
    """Find the StyleForge error behind ``error``, including one for a full disk or a locked database; else ``error`` itself."""
    current: BaseException | None = error
    # The chain may loop: Python lets an error be its own cause.
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, StyleForgeError):
            return current
        if isinstance(current, OSError) and current.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            place = str(current.filename or "STYLEFORGE_HOME")
            return StorageError(place, f"the disk refused the write ({current.strerror})", remedy=FULL)
        if "database or disk is full" in str(current):
            return StorageError(_DATABASE, "the disk is full", remedy=FULL)
        if is_locked(current):
            # MLflow's and our own are known where they are used.
            return database_locked(_DATABASE)
        current = current.__cause__ or current.__context__
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def first_line(error: BaseException) -> str:
    """The first line of an error's message (or its type, if it has none), at most 300 characters, to quote in a message of our own."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()[:300]
