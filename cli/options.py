"""What all commands share: their common options, and how an error becomes one message and an exit code."""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from components.core.errors import StyleForgeError, error_json, known_error
from components.core.logs import LogFormat, is_verbose, set_up

INTERRUPTED = 130

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log everything, with tracebacks.")]
Format = Annotated[LogFormat, typer.Option("--log-format", help="Format of log lines on stderr: for people, or JSON.")]
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="Run configuration: a YAML file, or a name such as pocket or sd15.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override one setting; repeatable.")]
Settings = Annotated[Path | None, typer.Option("--settings", metavar="YAML", help="File that says where steps run; default: zenml.yaml.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Ignore the cache: run every step again.")]
Gate = Annotated[Path | None, typer.Option("--gate", metavar="YAML", help="File with the gate's rules; default: configs/gate.yaml.")]
Champion = Annotated[str, typer.Option("--to", metavar="ALIAS", help="Alias for versions that pass the gate.")]
_COMMON = {"as_json": (AsJson, False), "verbose": (Verbose, False), "log_format": (Format, "human")}
_as_json: ContextVar[bool] = ContextVar("as_json", default=False)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that all share, and with every error as one message and the right exit code."""
    signature = inspect.signature(command, eval_str=True)
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _COMMON.items()
    ]

    @functools.wraps(command)
    def wrapper(*, as_json: bool, verbose: bool, log_format: LogFormat, **kwargs: Any) -> None:
        _as_json.set(as_json)
        set_up(verbose=verbose, log_format=log_format)
        try:
            command(**kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            message = "interrupted; the same command resumes where it stopped"
            _fail(message, INTERRUPTED, {"status": "failed", "error": {"kind": "Interrupted", "message": message}})
        except Exception as error:
            report_error(error)

    parameters = [*signature.parameters.values(), *common]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
    return wrapper


def is_json() -> bool:
    """Whether ``--json`` was given."""
    return _as_json.get()


def report_error(error: Exception, result: dict[str, Any] | None = None) -> NoReturn:
    """Print an error as one message (with ``--json`` also as JSON) and leave with its exit code."""
    error = known_error(error)
    ours, verbose = isinstance(error, StyleForgeError), is_verbose()
    if verbose:
        import traceback

        traceback.print_exception(error)
    message = str(error) if ours else f"unexpected {type(error).__name__}: {error}"
    if not ours and not verbose:
        message += "\nthis is a fault in StyleForge or below it; --verbose shows where"
    result = result or {"status": getattr(error, "status", "failed"), "error": error_json(error)}
    _fail(message, getattr(error, "exit_code", 1), result)


def _fail(message: str, code: int, result: dict[str, Any]) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    answer(result)
    raise typer.Exit(code)


def answer(data: Any) -> None:
    """With ``--json``, print one JSON object as one line."""
    if is_json():
        typer.echo(json.dumps(data, ensure_ascii=False, default=str))
        sys.stdout.flush()
