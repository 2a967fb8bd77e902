"""Who trains a model now, and from what a version was made: so that the same pictures and settings are not trained twice.

A claim is a tag on the registered model of the name's tickets (see :mod:`components.registry.lock`), put there and taken away
under that lock. The lock is held for moments, a claim for hours; so the holder beats: every ``BEAT`` seconds it changes a second
tag, of its own. Whoever finds the claim watches the beat. If it changes, the holder lives and the claim is left to it; if not for
``PATIENCE`` seconds by the watcher's own clock, the holder is gone and the claim is taken over.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.config import RunConfig
from components.core.content import digest_file, digest_value
from components.registry.lock import SUFFIX, lock
from components.registry.tracking import Tracking, service_errors
from components.registry.versions import TAG_PREFIX, all_versions

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SOURCE_DIGEST = "source_digest"
"""Tag of a version, under ``styleforge.``: what it was made from, as :func:`source_digest` gives it."""
CLAIM = f"{TAG_PREFIX}claim"
BEAT = 15.0
"""Seconds between two signs of life."""
PATIENCE = 120.0
"""Seconds without a sign of life after which a claim is taken over."""
_logger = logging.getLogger(__name__)


def source_digest(style_set: Path, config: RunConfig, base_digest: str) -> str:
    """Digest of all that a version is made from.

    It covers the manifest of the style set (path, bytes, caption, role and split of each picture), the settings, and the base's
    files. Where the pictures lie (``style.source``, ``style.reference``, ``aux.pool``) and where the model is registered (the
    section ``registry``) are no part of it.

    Args:
        style_set: folder that ``scan`` made.
        config: the whole resolved configuration.
        base_digest: of the base's files.
    """
    settings = config.model_dump(mode="json", exclude={"registry": True, "style": {"source", "reference"}, "aux": {"pool"}})
    return digest_value([digest_file(Path(style_set) / "manifest.jsonl"), settings, base_digest])


def find_made_from(tracking: Tracking, name: str, digest: str) -> ModelVersion | None:
    """The newest version of a registered model that was made from what ``digest`` stands for; None if there is none."""
    with service_errors(tracking.uri):
        versions = all_versions(tracking, name)
    return next((version for version in versions if version.tags.get(TAG_PREFIX + SOURCE_DIGEST) == digest), None)


@contextlib.contextmanager
def claim(tracking: Tracking, name: str, *, beat: float = BEAT, patience: float = PATIENCE) -> Iterator[bool]:
    """Claim the training of the registered model ``name`` while the block runs.

    Gives False where another process has the claim and lives; nobody waits for it to end.

    Args:
        tracking: the registry.
        name: registered model; it need not exist yet.
        beat: seconds between signs of life.
        patience: seconds without one after which the claim is taken over; several times ``beat``.

    Raises:
        ServiceUnreachable: the registry does not answer, or the lock cannot be had.
    """
    with service_errors(tracking.uri):
        owner = _take(tracking, name, patience)
    if owner is None:
        yield False
        return
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(tracking, name, owner, beat, ended), daemon=True, name=f"claim of {name}")
    heart.start()
    try:
        yield True
    finally:
        ended.set()
        heart.join(10)  # A registry that does not answer must not hold up the end.
        with contextlib.suppress(Exception):  # It is taken over then, since nothing beats any more.
            _give_back(tracking, name, owner)


def _take(tracking: Tracking, name: str, patience: float) -> str | None:
    """Put the own claim there, and give its owner's name; None if somebody else is alive."""
    owner = secrets.token_hex(8)
    seen: tuple[str, str] | None = None
    since = time.monotonic()
    while True:
        with lock(tracking, name) as ticket:
            now = _holder(tracking, name)
            silent = seen is not None and now == seen and time.monotonic() - since >= patience
            if now is None or silent:
                ticket.check()
                if now is not None:
                    _logger.warning("the training of %s was claimed by a process that is gone; it is taken over", name)
                    _remove_tag(tracking, name, _beat_key(now[0]))
                tracking.client.set_registered_model_tag(name + SUFFIX, CLAIM, owner)
                return owner
        if seen is not None and now != seen:
            return None
        if seen is None:
            seen, since = now, time.monotonic()
        time.sleep(min(5.0, patience / 8))


def _holder(tracking: Tracking, name: str) -> tuple[str, str] | None:
    """The owner of the claim and its last beat; None if nobody has it."""
    tags = dict(tracking.client.get_registered_model(name + SUFFIX).tags)
    owner = tags.get(CLAIM)
    return None if owner is None else (owner, tags.get(_beat_key(owner), ""))


def _beat(tracking: Tracking, name: str, owner: str, seconds: float, ended: threading.Event) -> None:
    # A tag of its own: a holder that was away for long and beats again must not undo the claim of its successor.
    count = 0
    while not ended.wait(seconds):
        count += 1
        try:
            tracking.client.set_registered_model_tag(name + SUFFIX, _beat_key(owner), str(count))
        except Exception as error:
            _logger.debug("a sign of life did not reach the registry", exc_info=error)


def _give_back(tracking: Tracking, name: str, owner: str) -> None:
    with lock(tracking, name):
        now = _holder(tracking, name)
        if now is not None and now[0] == owner:
            _remove_tag(tracking, name, CLAIM)
        _remove_tag(tracking, name, _beat_key(owner))


def _beat_key(owner: str) -> str:
    return f"{CLAIM}.{owner}"


def _remove_tag(tracking: Tracking, name: str, key: str) -> None:
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):  # It never beat.
        tracking.client.delete_registered_model_tag(name + SUFFIX, key)
