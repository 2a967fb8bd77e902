"""Checkpoints in the artifact store, so that a training whose machine is lost goes on elsewhere."""

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
"""Folders of files among the checkpoints, here as on the disk."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one training in the active artifact store. It travels to other processes: it holds nothing but its address.

    ``uri`` is the training's folder in the store; it ends with the digest of all that the training depends on.
    """

    uri: str

    def fetch(self, folder: Path) -> None:
        """Bring the newest checkpoint into ``folder``, unless that has it or a newer one, and the candidates and previews before it.

        Trouble with the store is only told.
        """
        from components.diffusion.training.checkpoints import STATE

        with _troubles("cannot be read; training begins with what is here"):
            names = [name for name in self._names() if self._store.exists(f"{self.uri}/{name}/{STATE}")]
            if not names or any(item.name >= names[-1] for item in folder.glob("step-*")):
                return
            # First: a checkpoint without the candidates before it is of no use.
            for name in BESIDE:
                if self._store.exists(f"{self.uri}/{name}"):
                    with atomic_folder(folder / name) as temporary:
                        download(self._store, f"{self.uri}/{name}", temporary)
            with atomic_folder(folder / names[-1]) as temporary:
                download(self._store, f"{self.uri}/{names[-1]}", temporary)
            _logger.info("took %s from the artifact store", names[-1])

    def keep(self, checkpoint: Path) -> None:
        """Store a checkpoint's folder, then remove the older ones; or store the file of a candidate or preview.

        Trouble with the store is only told: the training goes on.
        """
        from components.diffusion.training.checkpoints import STATE

        if checkpoint.is_file():
            with _troubles(f"did not take {checkpoint.name}; should this machine be lost now, it is gone or made again"):
                upload(self._store, checkpoint.parent, [Path(checkpoint.name)], f"{self.uri}/{checkpoint.parent.name}")
            return
        with _troubles("did not take a checkpoint; should this machine be lost now, training goes on from an older one"):
            older = self._names()
            files = [item.relative_to(checkpoint) for item in checkpoint.rglob("*") if item.is_file()]
            # The state comes last: a checkpoint without it is passed over.
            for part in ([file for file in files if file.name != STATE], [file for file in files if file.name == STATE]):
                upload(self._store, checkpoint, part, f"{self.uri}/{checkpoint.name}")
            for name in older:
                if name != checkpoint.name:
                    self._store.rmtree(f"{self.uri}/{name}")

    def clear(self) -> None:
        """Remove all checkpoints."""
        with _troubles("did not let go of checkpoints that nobody needs any more"):
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
    """Errors of a store (each has classes of its own) become a warning."""
    try:
        yield
    except Exception as error:
        _logger.warning("the artifact store %s (%s)", what, " ".join(str(error).split()) or type(error).__name__)


def checkpoint_store_for(key: object) -> CheckpointStore | None:
    """The checkpoints of a training, by a JSON value of all that it depends on.

    None where steps run in the process that starts the run, whose checkpoints are on its own disk.
    """
    from zenml.client import Client

    stack = Client().active_stack
    if stack.orchestrator.flavor == "local":
        return None
    return CheckpointStore(f"{stack.artifact_store.path.rstrip('/')}/{FOLDER}/{digest_value(key)[:32]}")
