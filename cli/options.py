"""What all commands share: their common options, and how an error becomes one message and an exit code."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from components.core.errors import StyleForgeError, error_json, known_error
from components.core.logs import set_up

INTERRUPTED = 130


class LogFormat(StrEnum):
    """How log lines look."""

    human = "human"
    json = "json"


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say everything, with tracebacks.")]
Format = Annotated[LogFormat, typer.Option("--log-format", help="Log lines on stderr for people or for machines.")]
Command = TypeVar("Command", bound=Callable[..., Any])


def guarded(command: Command) -> Command:
    """Set logging up from the command's options, and turn every error into one message and the right exit code."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        verbose, as_json = kwargs.get("verbose", False), kwargs.get("as_json", False)
        set_up(verbose=verbose, log_format=kwargs.get("log_format", LogFormat.human).value)
        try:
            command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            message = "interrupted; the same command goes on where it stopped"
            _fail(message, INTERRUPTED, {"status": "failed", "error": {"kind": "Interrupted", "message": message}}, as_json)
        except Exception as error:
            report_error(error, as_json=as_json, verbose=verbose)

    return wrapper  # type: ignore[return-value]


def report_error(error: Exception, *, as_json: bool, verbose: bool, result: dict[str, Any] | None = None) -> None:
    """Print an error as one message (and, if asked, as JSON) and leave with its exit code.

    Raises:
        typer.Exit: always.
    """
    error = known_error(error)
    ours = isinstance(error, StyleForgeError)
    if verbose:
        import traceback

        traceback.print_exception(error)
    message = str(error) if ours else f"unexpected {type(error).__name__}: {error}"
    if not ours and not verbose:
        message += "\nthis is a fault in StyleForge or below it; --verbose shows where"
    result = result or {"status": getattr(error, "status", "failed"), "error": error_json(error)}
    _fail(message, getattr(error, "exit_code", 1), result, as_json)


def _fail(message: str, code: int, result: dict[str, Any], as_json: bool) -> None:
    typer.echo(f"error: {message}", err=True)
    if as_json:
        print_json(result)
    raise typer.Exit(code)


def print_json(data: Any) -> None:
    """Print one JSON object as one line."""
    typer.echo(json.dumps(data, ensure_ascii=False, default=str))
    sys.stdout.flush()
