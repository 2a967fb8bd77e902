"""Registered style models: a model folder becomes a run's artifact with a version that points to it, and is found again by name."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from components.core.config import RunConfig
from components.core.content import digest_file, digest_folder, digest_value
from components.core.errors import GateRefused, InputError
from components.core.paths import atomic_folder, read_json, state
from components.registry.candidates import log_candidates, log_previews
from components.registry.lock import is_queue
from components.registry.tracking import (
    Tracking,
    all_pages,
    open_tracking,
    passing_over,
    public_uri,
    score_metrics,
    service_errors,
    training_metrics,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

TAG_PREFIX = "styleforge."
ARTIFACT_DIGEST = f"{TAG_PREFIX}artifact_digest"
"""Tag of a version: the digest of its files, from :func:`artifact_digest`."""
EVALUATION = "evaluation"
"""Folder in a model with its scores and the data that they were computed from."""
EVALUATION_DIGEST = f"{TAG_PREFIX}evaluation_digest"
SOURCE_DIGEST = "source_digest"
"""Tag of a version, prefixed with ``styleforge.``: the digest of what it was made from, see :func:`source_digest`."""
LOGGED_MODEL = f"{TAG_PREFIX}logged_model"
"""Tag of a version that was chosen among candidates: the id of its LoggedModel, see :mod:`components.registry.candidates`."""
SELECTION = Path("training") / "selection" / "selection.json"
"""The options compared in choosing a model's checkpoint and guidance; not every model has this file."""
MODEL_FILES = ("model_index.json", "delta.safetensors")


@dataclass(frozen=True)
class ModelRef:
    """One registered version: its name, its number, the alias it got, and the run that made it."""

    name: str
    version: str
    alias: str | None
    run_id: str


def register_model(
    tracking: Tracking,
    *,
    name: str,
    alias: str,
    experiment: str,
    model: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    scores: Mapping[str, Any],
    report: Path | None = None,
    pictures: Sequence[Path] = (),
) -> ModelRef:
    """Log a run and register its model folder, copied unchanged, as a new version that gets ``alias``.

    ``tags`` are set on the run and the version, prefixed with ``styleforge.``; ``scores`` become metrics, and the style's scores also
    tags of the version; the candidates that a checkpoint was chosen from become LoggedModels. If MLflow stops answering on the way, the
    run is marked failed and no version is created.
    """
    facts = {f"{TAG_PREFIX}{key}": str(value) for key, value in tags.items()}
    facts[ARTIFACT_DIGEST] = artifact_digest(model)
    if (model / EVALUATION).is_dir():
        facts[EVALUATION_DIGEST] = digest_folder(model / EVALUATION)
    with tracking.run(experiment, name, facts) as run_id:
        client = tracking.client
        tracking.log_params(run_id, params)
        tracking.log_metrics(run_id, training_metrics(model / "training" / "log.jsonl") + score_metrics(scores))
        if report is not None:
            client.log_artifact(run_id, str(report), "report")
        for picture in pictures:
            client.log_artifact(run_id, str(picture), "pictures")
        log_previews(tracking, run_id, model / "training" / "previews")
        client.log_artifacts(run_id, str(model), "model")
        ensure_model(tracking, name)
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        chosen = (
            log_candidates(tracking, experiment, run_id, name, read_json(selection)) if (selection := model / SELECTION).is_file() else None
        )
        # MLflow's own stores do not keep a version's model id.
        tags = facts | _score_tags(scores) | ({LOGGED_MODEL: chosen} if chosen else {})
        version = client.create_model_version(name, source, run_id=run_id, tags=tags, model_id=chosen)
        client.set_registered_model_alias(name, alias, str(version.version))
    return ModelRef(name, str(version.version), alias, run_id)


def source_digest(style_set: Path, config: RunConfig, base_digest: str) -> str:
    """Digest of everything that a version is made from, used to recognise a repeated training.

    It covers the manifest of the style set (path, bytes, caption, role and split of each picture), the settings, and the base's
    files; but not where the pictures are (``style.source``, ``style.reference``, ``aux.pool``), the section ``registry``, or ``rights``
    if none are recorded.
    """
    apart: dict[str, Any] = {"registry": True, "style": {"source", "reference"}, "aux": {"pool"}}
    settings = config.model_dump(mode="json", exclude=apart if config.rights.recorded else {**apart, "rights": True})
    return digest_value([digest_file(Path(style_set) / "manifest.jsonl"), settings, base_digest])


def find_made_from(tracking: Tracking, name: str, digest: str) -> ModelVersion | None:
    """The newest version of a registered model whose :func:`source_digest` is ``digest``; None if there is none."""
    with service_errors(tracking.uri):
        versions = tracking.versions(name)
    return next((version for version in versions if version.tags.get(TAG_PREFIX + SOURCE_DIGEST) == digest), None)


def _score_tags(scores: Mapping[str, Any]) -> dict[str, str]:
    style = scores.get("style") or {}
    return {f"{TAG_PREFIX}{metric}": f"{score['value']:.6g}" for metric, score in style.items() if isinstance(score, Mapping)}


def ensure_model(tracking: Tracking, name: str) -> None:
    """Create a registered model unless it exists."""
    with passing_over("RESOURCE_ALREADY_EXISTS"):
        tracking.client.create_registered_model(name)


def parse_reference(reference: str) -> tuple[str, str | None, str | None]:
    """Split ``name``, ``name@alias`` or ``name/version`` into (name, version, alias)."""
    name, at, alias = reference.partition("@")
    version: str | None = None
    if not at and "/" in reference:
        name, _, version = reference.partition("/")
    if not name or (at and not alias) or "/" in alias or (version is not None and not version.isdigit()):
        raise InputError(reference, "is neither a folder nor a registered model", expected="a folder, name, name@alias or name/version")
    return name, version, alias or None


def resolve_model(reference: str, uri: str | None = None) -> Path:
    """The local folder of a model, given as a folder or as a registered ``name`` (newest), ``name@alias`` or ``name/version``.

    A registered model that is not on this machine is downloaded once.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in MODEL_FILES):
            raise InputError(str(folder), f"has no {' or '.join(MODEL_FILES)}", expected="a model folder in diffusers layout, or a delta")
        return folder
    tracking = open_tracking(uri)
    with service_errors(tracking.uri):
        version = find_version(tracking, reference)
        source = tracking.client.get_model_version_download_uri(version.name, str(version.version))
    path = local_path(source)
    if path is None:
        return _download(tracking, version, source)
    if not path.is_dir():
        raise InputError(reference, f"its files are gone ({path})", expected="the folder that was registered", remedy="register it again")
    return path


def verified_folder(tracking: Tracking, version: ModelVersion) -> Path:
    """The local folder of a version's files; GateRefused if they are gone or changed, or if another tool registered the version."""
    return _verified(tracking, version, "", ARTIFACT_DIGEST)


def verified_evaluation(tracking: Tracking, version: ModelVersion) -> Path:
    """The local folder of a version's scores, verified likewise; the model's own files are not fetched."""
    return _verified(tracking, version, EVALUATION, EVALUATION_DIGEST)


def _verified(tracking: Tracking, version: ModelVersion, part: str, tag: str) -> Path:
    from mlflow.exceptions import MlflowException

    if ARTIFACT_DIGEST not in version.tags:
        problem = "was registered by another tool, or by an early StyleForge: it has no digest of its files"
        raise refusal(version, problem, "a version that `styleforge run` registered", "run its configuration again")
    if tag not in version.tags:
        raise refusal(version, "has no scores", "a version that `styleforge run` scored and registered", "run its configuration again")
    source = tracking.client.get_model_version_download_uri(version.name, str(version.version))
    place = f"{source}/{part}" if part else source
    path = local_path(place)
    try:
        folder = path or _download(tracking, version, place)
    except (MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise refusal(version, f"its files cannot be fetched ({reason})", "the files that were registered", "register it again") from error
    if not folder.is_dir():
        raise refusal(version, f"its files are gone ({folder})", "the files that were registered", "register it again")
    remove_compiled(folder)
    if artifact_digest(folder) != version.tags[tag]:
        if path is None:
            shutil.rmtree(folder, ignore_errors=True)  # A download that went wrong must not stay in the cache.
        expected = f"files with the digest {version.tags[tag][:16]}…"
        raise refusal(version, f"its files were changed since they were registered ({place})", expected, "register it again")
    return folder


def artifact_digest(folder: Path) -> str:
    """Digest of a registered folder's files, except those that loading it creates: MLflow's metadata and Python's compiled files."""
    return digest_folder(folder, lambda name: name.as_posix() == "registered_model_meta" or "__pycache__" in name.parts)


def remove_compiled(folder: Path) -> None:
    """Remove Python's compiled files: no digest covers them, and Python would run them even if somebody had changed them."""
    for compiled in list(folder.rglob("__pycache__")):
        shutil.rmtree(compiled)


def refusal(version: ModelVersion, problem: str, expected: str, remedy: str) -> GateRefused:
    """The error for a version that cannot be used."""
    return GateRefused(f"{version.name}/{version.version}", problem, expected=expected, remedy=remedy)


def find_version(tracking: Tracking, reference: str) -> ModelVersion:
    """The registered version behind ``name`` (the newest), ``name@alias`` or ``name/version``."""
    name, number, alias = parse_reference(reference)
    with passing_over("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        if alias:
            return tracking.client.get_model_version_by_alias(name, alias)
        if number:
            return tracking.client.get_model_version(name, number)
        if versions := tracking.versions(name):
            return versions[0]
    known = ", ".join(model.name for model in all_models(tracking)) or "none yet"
    raise InputError(
        reference,
        f"no such folder or registered model at {public_uri(tracking.uri)}",
        expected=f"a model folder, or name, name@alias or name/version of a registered model (known: {known})",
        remedy="see `styleforge models`",
    )


def local_path(source: str) -> Path | None:
    """The path behind an artifact's URI; None if it is not on this machine."""
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(source) if parts.scheme == "" else None


def _download(tracking: Tracking, version: ModelVersion, source: str) -> Path:
    from mlflow.artifacts import download_artifacts

    key = digest_value([tracking.uri, version.name, str(version.version), version.run_id, source])[:16]
    target = state("cache", "models") / f"{version.name}-{version.version}-{key}"
    if not target.is_dir():
        with atomic_folder(target) as temporary, service_errors(tracking.uri):
            got = download_artifacts(artifact_uri=source, dst_path=str(temporary / "got"), tracking_uri=tracking.uri)
            for item in Path(got).iterdir():
                shutil.move(item, temporary / item.name)
            shutil.rmtree(temporary / "got", ignore_errors=True)
    return target


def is_registered(uri: str, name: str, version: str) -> bool:
    """Whether the version exists."""
    if _stands_in_sqlite(uri, name, version):
        return True
    tracking = open_tracking(uri)
    with service_errors(tracking.uri), passing_over("RESOURCE_DOES_NOT_EXIST"):
        return bool(tracking.client.get_model_version(name, version))
    return False


def _stands_in_sqlite(uri: str, name: str, version: str) -> bool:
    """Whether an SQLite file lists the version; False if that cannot be told. Avoids importing MLflow, a fifth of a cached run's time."""
    if not uri.startswith("sqlite:///"):
        return False
    asked = "SELECT 1 FROM model_versions WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal'"
    file = Path(uri.removeprefix("sqlite:///")).absolute().as_uri()
    try:
        with contextlib.closing(sqlite3.connect(f"{file}?mode=ro", uri=True)) as database:
            return database.execute(asked, (name, version)).fetchone() is not None
    except sqlite3.Error:
        return False


def list_models(uri: str | None = None) -> list[dict[str, Any]]:
    """All registered versions, by name and then newest first: name, version, aliases, created (ms), run_id and our tags."""
    tracking, rows = open_tracking(uri), []
    with service_errors(tracking.uri):
        for model in all_models(tracking):
            by_version: dict[str, list[str]] = {}
            for alias, number in model.aliases.items():
                by_version.setdefault(str(number), []).append(alias)
            for version in tracking.versions(model.name):
                number = str(version.version)
                rows.append({
                    "name": version.name, "version": number, "aliases": sorted(by_version.get(number, [])),
                    "created": version.creation_timestamp, "run_id": version.run_id,
                    "tags": {key.removeprefix(TAG_PREFIX): value for key, value in version.tags.items() if key.startswith(TAG_PREFIX)},
                })  # fmt: skip
    return rows


def all_models(tracking: Tracking) -> list[RegisteredModel]:
    """All registered models by name, except those that only hold a lock's tickets."""
    found = (model for model in all_pages(tracking.client.search_registered_models) if not is_queue(dict(model.tags)))
    return sorted(found, key=lambda model: str(model.name))
