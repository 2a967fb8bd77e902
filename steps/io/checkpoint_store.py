"""Keeps checkpoints in the artifact store, so that a training run can continue elsewhere if its machine is lost."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.content import digest_value
from components.core.paths import atomic_folder
from steps.io.transfer import download, upload

if TYPE_CHECKING:
    from zenml.artifact_stores import BaseArtifactStore

FOLDER = "styleforge/checkpoints"
BESIDE = ("candidates", "previews")
"""Folders that are not checkpoints but lie beside them, both here and on disk."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one training run in the active artifact store; it holds only their address, so it can be sent to other processes.

    ``uri`` is the training run's folder in the store; it ends with the digest of everything that the training depends on.
    """

    uri: str

    def fetch(self, folder: Path) -> None:
        """Download the newest checkpoint and earlier candidates and previews, unless ``folder`` has that checkpoint or a newer one.

        Errors of the store are only logged as warnings.
        """
        from components.diffusion.training.checkpoints import STATE

        with _troubles("cannot be read; training starts from what is on this machine"):
            names = [name for name in self._names() if self._store.exists(f"{self.uri}/{name}/{STATE}")]
            if not names or any(item.name >= names[-1] for item in folder.glob("step-*")):
                return
            # These come first: a checkpoint without the candidates before it is of no use.
            for name in BESIDE:
                if self._store.exists(f"{self.uri}/{name}"):
                    with atomic_folder(folder / name) as temporary:
                        download(self._store, f"{self.uri}/{name}", temporary)
            with atomic_folder(folder / names[-1]) as temporary:
                download(self._store, f"{self.uri}/{names[-1]}", temporary)
            _logger.info("fetched %s from the artifact store", names[-1])

    def keep(self, checkpoint: Path) -> None:
        """Store a checkpoint's folder, then remove the older ones; or store the file of a candidate or preview.

        Errors of the store are only logged as warnings, so that training continues.
        """
        from components.diffusion.training.checkpoints import STATE

        if checkpoint.is_file():
            with _troubles(f"did not accept {checkpoint.name}; if this machine is lost now, it is gone or made again"):
                upload(self._store, checkpoint.parent, [Path(checkpoint.name)], f"{self.uri}/{checkpoint.parent.name}")
            return
        with _troubles("did not accept a checkpoint; if this machine is lost now, training resumes from an older one"):
            older = self._names()
            files = [item.relative_to(checkpoint) for item in checkpoint.rglob("*") if item.is_file()]
            # The state comes last: a checkpoint without it is ignored as incomplete.
            for part in ([file for file in files if file.name != STATE], [file for file in files if file.name == STATE]):
                upload(self._store, checkpoint, part, f"{self.uri}/{checkpoint.name}")
            for name in older:
                if name != checkpoint.name:
                    self._store.rmtree(f"{self.uri}/{name}")

    def clear(self) -> None:
        """Remove all checkpoints, candidates and previews."""
        with _troubles("did not delete checkpoints that are no longer needed"):
            if self._store.exists(self.uri):
                self._store.rmtree(self.uri)

    def _names(self) -> list[str]:
        names = [str(name) for name in self._store.listdir(self.uri)] if self._store.exists(self.uri) else []
        return sorted(name for name in names if name not in BESIDE)

    @property
    def _store(self) -> BaseArtifactStore:
        from zenml.client import Client

        return Client().active_stack.artifact_store


@contextlib.contextmanager
def _troubles(what: str) -> Iterator[None]:
    """Turn any error into a warning, since every kind of store has its own error classes."""
    try:
        yield
    except Exception as error:
        _logger.warning("the artifact store %s (%s)", what, " ".join(str(error).split()) or type(error).__name__)


def checkpoint_store_for(key: object) -> CheckpointStore | None:
    """Return the store for a training run, given a JSON value ``key`` of everything that it depends on.

    None if steps run in the process that starts the run, because then the checkpoints are on its own disk.
    """
    from zenml.client import Client

    stack = Client().active_stack
    if stack.orchestrator.flavor == "local":
        return None
    return CheckpointStore(f"{stack.artifact_store.path.rstrip('/')}/{FOLDER}/{digest_value(key)[:32]}")
