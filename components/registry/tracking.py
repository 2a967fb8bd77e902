"""MLflow tracking: which server or file to use, whether it answers, and runs that always end in a definite state."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from components.core.errors import InputError, ServiceUnreachable, database_locked, is_locked
from components.core.paths import home, read_jsonl, state

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# MLflow refuses larger batches and longer parameters (mlflow.utils.validation).
METRICS_A_BATCH = 1000
PARAMS_A_BATCH = 100
PARAM_LENGTH = 6000
CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 4.0
_logger = logging.getLogger(__name__)


def tracking_uri(configured: str | None = None) -> str:
    """The tracking URI of a run: the configured one, else ``$MLFLOW_TRACKING_URI``, else SQLite under STYLEFORGE_HOME."""
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{state('mlflow') / 'mlflow.db'}"


def is_new(uri: str) -> bool:
    """Whether ``uri`` is an SQLite file that does not exist (yet or any more), so that nothing is registered in it."""
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()


def public_uri(uri: str) -> str:
    """The URI without user name and password, fit for messages and records."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def check_reachable(uri: str) -> None:
    """Raise ServiceUnreachable within ten seconds if the server at ``uri`` does not answer; InputError for a plain file store.

    Database URIs are not checked.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        raise InputError(
            f"MLflow tracking URI {public_uri(uri)}", "a plain file store is no longer supported by MLflow",
            expected="http(s)://host:port, sqlite:///file or another database URL",
            remedy="leave MLFLOW_TRACKING_URI and registry.tracking_uri unset to use SQLite under STYLEFORGE_HOME",
        )  # fmt: skip
    if parts.scheme not in ("http", "https"):
        return
    import requests

    # Passed separately from the URL, whose text may appear in an error.
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    try:
        # Any response will do: the server may be older, or behind a login.
        requests.get(f"{public_uri(uri).rstrip('/')}/health", auth=login, timeout=(CONNECT_SECONDS, ANSWER_SECONDS))
    except (requests.RequestException, ValueError) as error:
        raise _unreachable(uri, error) from error


def _unreachable(uri: str, error: BaseException) -> ServiceUnreachable:
    # The operating system's message is wrapped several times.
    while isinstance(inner := getattr(error, "reason", None) or next(iter(error.args), None), BaseException):
        error = inner
    return ServiceUnreachable(
        f"MLflow at {public_uri(uri)}",
        f"no answer ({' '.join(str(error).split())[:200]})",
        expected="a running tracking server",
        remedy="start it, fix MLFLOW_TRACKING_URI, or unset it to use SQLite under STYLEFORGE_HOME",
    )


@contextmanager
def service_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's connection errors, and what it says of a locked database, into :class:`ServiceUnreachable`."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except RequestException as error:
        raise _unreachable(uri, error) from error
    except MlflowException as error:
        text = str(error)
        if is_locked(error):
            at_home = uri.startswith("sqlite:///") and Path(uri.removeprefix("sqlite:///")).resolve().is_relative_to(home())
            raise database_locked(f"MLflow at {public_uri(uri)}", "STYLEFORGE_HOME" if at_home else "MLFLOW_TRACKING_URI") from error
        if any(word in text for word in ("Max retries exceeded", "Connection refused", "timed out", "OperationalError")):
            raise _unreachable(uri, error) from error
        raise


@contextmanager
def passing_over(*codes: str) -> Iterator[None]:
    """Suppress MLflow errors with one of ``codes``, such as ``RESOURCE_DOES_NOT_EXIST``; the block ends there."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


@dataclass(frozen=True)
class Tracking:
    """An MLflow client and its URI."""

    uri: str
    client: MlflowClient

    def experiment(self, name: str) -> str:
        """Id of the experiment, created if missing; with SQLite its artifacts lie in ``mlflow/artifacts`` under STYLEFORGE_HOME."""
        with service_errors(self.uri):
            found = self.client.get_experiment_by_name(name)
            if found is not None:
                return str(found.experiment_id)
            location = (state("mlflow", "artifacts") / name).as_uri() if self.uri.startswith("sqlite:") else None
            return str(self.client.create_experiment(name, artifact_location=location))

    @contextmanager
    def run(self, experiment: str, name: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Start a run and yield its id; it is marked finished at the end of the block, or failed if the block raises."""
        with service_errors(self.uri):
            run_id = self.start(experiment, name, tags)
            try:
                yield run_id
            except BaseException:
                self.end(run_id, "FAILED")
                raise
            self.end(run_id, "FINISHED")

    def start(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Start a run and return its id; use :meth:`run` instead where the work fits in one block."""
        return str(self.client.create_run(self.experiment(experiment), tags=dict(tags), run_name=name).info.run_id)

    def end(self, run_id: str, status: str) -> None:
        """Mark a run ``FINISHED`` or ``FAILED``."""
        try:
            self.client.set_terminated(run_id, status=status)
        except Exception:
            if status == "FINISHED":
                raise
            # The block's own error is the one to show.
            _logger.debug("run %s could not be marked %s", run_id, status, exc_info=True)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Log a flat mapping as parameters, in batches; MLflow keeps them as strings."""
        from mlflow.entities import Param

        rows = [Param(key, _as_text(value)) for key, value in params.items()]
        for batch in _batches(rows, PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=batch)

    def log_metrics(self, run_id: str, rows: Iterable[tuple[str, float, int]]) -> None:
        """Log (name, value, step) rows in batches, up to a thousand per request."""
        from mlflow.entities import Metric

        metrics = [Metric(name, float(value), 0, step) for name, value, step in rows]
        for batch in _batches(metrics, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of a registered model, newest first."""
        quoted = name.replace("'", "''")
        found = all_pages(self.client.search_model_versions, filter_string=f"name = '{quoted}'")
        return sorted(found, key=lambda version: -int(version.version))


def _as_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= PARAM_LENGTH else text[: PARAM_LENGTH - 1] + "…"


def _batches(rows: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def open_tracking(uri: str | None = None) -> Tracking:
    """Connect to MLflow at :func:`tracking_uri`; ServiceUnreachable within about ten seconds if it does not answer."""
    uri = tracking_uri(uri)
    check_reachable(uri)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    # Alembic logs each step of creating the database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    with service_errors(uri):
        return Tracking(uri, MlflowClient(tracking_uri=uri, registry_uri=uri))


def all_pages(search: Any, **arguments: Any) -> list[Any]:
    """All results of an MLflow search, from every page."""
    items: list[Any] = []
    token = None
    while True:
        page = search(page_token=token, **arguments)
        items.extend(page)
        token = page.token
        if not token:
            return items


def training_metrics(log: Path) -> list[tuple[str, float, int]]:
    """The numbers of a training log (``log.jsonl``) as (name, value, step) rows, named ``train/...``."""
    rows: list[tuple[str, float, int]] = []
    for row in read_jsonl(log) if log.is_file() else []:
        step = int(row.get("step", 0))
        numbers = ((key, value) for key, value in row.items() if key != "step" and isinstance(value, int | float))
        rows.extend((f"train/{key}", float(value), step) for key, value in numbers)
    return rows


def score_metrics(scores: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """The values and interval ends of a scores mapping as (name, value, 0) rows, such as ``style/kid`` and ``style/kid_low``."""
    rows: list[tuple[str, float, int]] = []
    for group in ("style", "base", "drift"):
        for metric, score in (scores.get(group) or {}).items():
            parts = score if isinstance(score, Mapping) else {"value": score}
            for part in ("value", "low", "high"):
                if isinstance(parts.get(part), int | float):
                    rows.append((f"{group}/{metric}" + ("" if part == "value" else f"_{part}"), float(parts[part]), 0))
    return rows
