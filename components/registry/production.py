"""From development to production: a version of ``name.dev`` becomes a version of ``name`` with its own copy of the files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import StorageError
from components.core.paths import state
from components.registry.tracking import Tracking
from components.registry.versions import ARTIFACT_DIGEST, TAG_PREFIX, artifact_digest, ensure_model, local_path

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

DEVELOPMENT = ".dev"
SOURCE_TAG = f"{TAG_PREFIX}source_version"
KIND_TAG, KIND = f"{TAG_PREFIX}kind", "promotion"
EXPERIMENT = "styleforge-production"
_ALSO = ("report", "pictures")


def production_name(name: str) -> str:
    """``name`` for ``name.dev``; any other name unchanged."""
    return name.removesuffix(DEVELOPMENT)


def copy_to_production(tracking: Tracking, version: ModelVersion, folder: Path, name: str) -> str:
    """Copy a development version's verified ``folder`` into a run of its own and register it as ``name``; an earlier copy is reused.

    Returns the number of the production version; StorageError if the copy differs from the original.
    """
    source = f"{version.name}/{version.version}"
    digest = version.tags[ARTIFACT_DIGEST]
    ensure_model(tracking, name)
    for known in tracking.versions(name):
        if known.tags.get(SOURCE_TAG) == source and known.tags.get(ARTIFACT_DIGEST) == digest:
            return str(known.version)
    facts = {key: value for key, value in version.tags.items() if key.startswith(TAG_PREFIX)}
    with tracking.run(EXPERIMENT, f"{name} from {source}", {**facts, KIND_TAG: KIND, SOURCE_TAG: source}) as run_id:
        client = tracking.client
        origin = client.get_run(str(version.run_id))
        tracking.log_params(run_id, origin.data.params)
        tracking.log_metrics(run_id, [(key, value, 0) for key, value in origin.data.metrics.items()])
        client.log_artifacts(run_id, str(folder), "model")
        _copy_pages(tracking, str(version.run_id), run_id)
        place = f"{client.get_run(run_id).info.artifact_uri}/model"
        path = local_path(place)
        # A server's own storage cannot be read from here; the server has checked the transfer, and every use checks the digest.
        if path is not None and artifact_digest(path) != digest:
            raise StorageError(str(path), "the copy differs from the original", remedy="check the disk, then run the same command again")
        made = client.create_model_version(name, place, run_id=run_id, tags={**facts, SOURCE_TAG: source})
    return str(made.version)


def _copy_pages(tracking: Tracking, origin: str, target: str) -> None:
    client = tracking.client
    there = {item.path for item in client.list_artifacts(origin)}
    with tempfile.TemporaryDirectory(dir=state("tmp")) as scratch:
        for part in _ALSO:
            if part in there:
                client.log_artifacts(target, client.download_artifacts(origin, part, scratch), part)
