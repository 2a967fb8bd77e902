"""Find and delete versions and unfinished copies in the registry that nobody needs any more."""

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from components.core.errors import InputError
from components.registry.history import read_history
from components.registry.lock import lock
from components.registry.production import EXPERIMENT, KIND, KIND_TAG
from components.registry.tracking import Tracking, all_pages, service_errors
from components.registry.versions import all_models, local_path

UNFINISHED_SECONDS = 24 * 3600.0
"""Age at which a running copy into production that still has no version counts as abandoned."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unneeded:
    """A version, or an unfinished copy into production (``version`` is None), that can be deleted; ``bytes`` is None on a server."""

    name: str
    version: str | None
    run_id: str
    created: str
    bytes: int | None
    reason: str


def find_unneeded(tracking: Tracking, name: str | None = None, *, keep: int = 3) -> list[Unneeded]:
    """StyleForge's versions with no alias or history and a run that has ended, except each model's newest ``keep``.

    Without a ``name``, all models are searched and unfinished copies into production are included. InputError for an unknown name.
    """
    with service_errors(tracking.uri):
        names = [str(model.name) for model in all_models(tracking)]
        if name is not None and name not in names:
            raise InputError(name, "no such registered model", expected=f"one of: {', '.join(names) or 'none yet'}")
        found = [item for one in names if name in (None, one) for item in _unneeded_versions(tracking, one, keep)]
        return found + (list(_unfinished_copies(tracking)) if name is None else [])


def delete(tracking: Tracking, items: list[Unneeded]) -> list[Unneeded]:
    """Delete versions and their model files, each checked again under its model's lock; returns what was deleted.

    The scores and reports of a version's run stay; the run of an unfinished copy is deleted.
    """
    gone = []
    with service_errors(tracking.uri):
        for item in items:
            if item.version is None:
                _delete_files(tracking, item.run_id)
                tracking.client.delete_run(item.run_id)
                gone.append(item)
                continue
            with lock(tracking, item.name):
                if item.version not in _needed(tracking, item.name):
                    tracking.client.delete_model_version(item.name, item.version)
                    gone.append(item)
            if item in gone and not _is_shared(tracking, item.run_id):
                _delete_files(tracking, item.run_id)
    return gone


def _unneeded_versions(tracking: Tracking, name: str, keep: int) -> Iterator[Unneeded]:
    needed = _needed(tracking, name)
    for version in tracking.versions(name)[keep:]:
        number = str(version.version)
        # What another tool registered is not ours to judge.
        if number in needed or not any(key.startswith("styleforge.") for key in version.tags) or not version.run_id:
            continue
        run = tracking.client.get_run(version.run_id)
        if run.info.status == "RUNNING":
            continue
        reason = "no alias, no history and no run needs it"
        yield Unneeded(name, number, version.run_id, _day(version.creation_timestamp), _size(run.info.artifact_uri), reason)


def _unfinished_copies(tracking: Tracking) -> Iterator[Unneeded]:
    experiment = tracking.client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return
    runs = all_pages(tracking.client.search_runs, experiment_ids=[experiment.experiment_id], filter_string=f"tags.`{KIND_TAG}` = '{KIND}'")
    for run in runs:
        old = run.info.status != "RUNNING" or time.time() - run.info.start_time / 1000 > UNFINISHED_SECONDS
        if old and not _is_shared(tracking, run.info.run_id):
            reason = "a copy into production that never became a version"
            yield Unneeded(run.info.run_name, None, run.info.run_id, _day(run.info.start_time), _size(run.info.artifact_uri), reason)


def _needed(tracking: Tracking, name: str) -> set[str]:
    aliases = tracking.client.get_registered_model(name).aliases
    named = {version for entry in read_history(tracking, name) for version in (entry.version, entry.before) if version}
    return {str(version) for version in aliases.values()} | named


def _is_shared(tracking: Tracking, run_id: str) -> bool:
    """Whether any version uses this run's files."""
    return bool(all_pages(tracking.client.search_model_versions, filter_string=f"run_id = '{run_id}'"))


def _delete_files(tracking: Tracking, run_id: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = tracking.client.get_run(run_id).info.artifact_uri
    path = local_path(uri)
    if path is not None:
        shutil.rmtree(path / "model", ignore_errors=True)
        return
    try:
        get_artifact_repository(uri, tracking_uri=tracking.uri).delete_artifacts("model")
    except Exception as error:
        # The version is gone already; its files only cost space.
        _logger.warning("the files of run %s could not be deleted (%s)", run_id, " ".join(str(error).split())[:200])


def _size(artifact_uri: str) -> int | None:
    path = local_path(artifact_uri)
    if path is None:
        return None
    return sum(file.stat().st_size for file in (path / "model").rglob("*") if file.is_file())


def _day(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))
