"""What the user sees during a run: short lines for people, JSON lines for machines, progress bars on a terminal."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from components.core.paths import FLOORS

LogFormat = Literal["human", "json"]


class Advance(Protocol):
    """Moves a progress bar on by some units, with an optional note such as the loss."""

    def __call__(self, units: int = 1, note: str = "") -> None:
        """Advance by ``units``."""


class _JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False)


class _HumanFormatter(logging.Formatter):
    """The message alone, with its level in front only for warnings and errors."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _StderrHandler(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is at the time, so rich's live display and test capture both see it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def set_up(*, verbose: bool = False, log_format: LogFormat = "human") -> None:
    """Send our loggers to stderr: warnings and milestones by default, everything with ``verbose``. Calling it again replaces this.

    Other libraries' loggers keep their own handlers and show warnings only, unless ``verbose``.
    """
    handler = _StderrHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _HumanFormatter())
    for name in FLOORS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
        # ZenML adds its own handlers to the root logger, which would print everything twice.
        logger.propagate = False
    logging.captureWarnings(not verbose)
    # peft imports bitsandbytes if it is installed, and on a CPU that logs that a further package is needed.
    for name in ("py.warnings", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.WARNING if verbose else logging.ERROR)


def is_verbose() -> bool:
    """Whether :func:`set_up` was called with ``verbose``."""
    return logging.getLogger(FLOORS[0]).level == logging.DEBUG


@contextmanager
def progress(description: str, total: int, *, every_seconds: float = 10.0, shown: bool = True) -> Iterator[Advance]:
    """A progress bar on a terminal, a plain log line every few seconds elsewhere.

    ``shown=False`` prints nothing: when several processes share the work, only one reports.
    """
    if not shown:
        yield lambda units=1, note="": None
    elif sys.stderr.isatty():
        yield from _bar(description, total)
    else:
        yield from _plain(description, total, every_seconds)


def _bar(description: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    label, note_column = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = (label, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note_column)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(units: int = 1, note: str = "") -> None:
            fields: dict[str, Any] = {"note": note} if note else {}
            bar.update(task, advance=units, **fields)

        yield advance


def _plain(description: str, total: int, every_seconds: float) -> Iterator[Advance]:
    logger = logging.getLogger(__name__)
    start = last = time.monotonic()
    done = 0

    def advance(units: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += units
        now = time.monotonic()
        if done < total and now - last < every_seconds:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = "" if done >= total else f", {(total - done) / rate:.0f} s left"
        logger.info("%s %d/%d%s%s", description, done, total, left, f", {note}" if note else "")

    yield advance
