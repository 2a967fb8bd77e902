"""Passes folders between steps: hashed by content, hard-linked if the store is a local disk, never pickled or packed."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType, VisualizationType
from zenml.materializers.base_materializer import BaseMaterializer

from components.core.content import digest_folder
from components.core.errors import StorageError
from components.core.paths import atomic_folder, link_or_copy, state, storage_errors
from steps.io.transfer import download, upload

# Timings differ from run to run for the same work: they are stored, but not counted as content.
VOLATILE_NAMES = frozenset({"timing.json"})
SHOWN_SUFFIXES = {".html": VisualizationType.HTML, ".md": VisualizationType.MARKDOWN, ".csv": VisualizationType.CSV}
SHOWN_PICTURES = 6


class Folder:
    """A folder that one step made and others read; its content ``digest`` is computed unless it is given."""

    def __init__(self, path: str | Path, digest: str | None = None) -> None:
        self.path = Path(path)
        self._digest = digest

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted relative paths and contents, without the files in ``VOLATILE_NAMES``."""
        if self._digest is None:
            self._digest = content_digest(self.path)
        return self._digest

    def files(self) -> list[Path]:
        """Return all files as sorted paths relative to the folder."""
        return sorted(item.relative_to(self.path) for item in self.path.rglob("*") if item.is_file())


def content_digest(folder: Path) -> str:
    """Compute :attr:`Folder.digest` for any folder."""
    return digest_folder(folder, lambda name: name.name in VOLATILE_NAMES)


class FolderMaterializer(BaseMaterializer):
    """Stores a :class:`Folder` file by file under ``<uri>/data``."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Folder,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def save(self, data: Folder) -> None:
        """Link (local store) or upload the files.

        Raises:
            StorageError: the step made no folder, or the local disk refused a write; what was already stored is removed.
        """
        if not data.path.is_dir():
            raise StorageError(str(data.path), "the step made no folder here", expected="a folder")
        if not self._local:
            upload(self.artifact_store, data.path, data.files(), f"{self.uri}/data")
            return
        target = Path(self.uri) / "data"
        try:
            with storage_errors(target):
                for relative in data.files():
                    link_or_copy(data.path / relative, target / relative)
                target.mkdir(parents=True, exist_ok=True)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def load(self, data_type: type[Any]) -> Folder:
        """Return the stored folder itself if the store is local (never write into it), else a copy cached by digest."""
        if self._local:
            return Folder(Path(self.uri) / "data", self.expected_content_hash)
        target = state("cache", "artifacts") / (self.expected_content_hash or self.uri.rstrip("/").rsplit("/", 1)[-1])
        if not target.is_dir():
            with atomic_folder(target) as temporary:
                download(self.artifact_store, f"{self.uri}/data", temporary)
        return Folder(target, self.expected_content_hash)

    def compute_content_hash(self, data: Folder) -> str | None:
        """Return the digest, so that a step whose inputs have the same content is a cache hit."""
        return data.digest

    def extract_metadata(self, data: Folder) -> dict[str, Any]:
        """Return the number of files, the size in bytes and the digest."""
        files = data.files()
        return {"files": len(files), "bytes": sum((data.path / item).stat().st_size for item in files), "digest": data.digest}

    def save_visualizations(self, data: Folder) -> dict[str, VisualizationType]:
        """Show the pages and tables at the top of the folder, and the first few pictures anywhere in it."""
        files = data.files()
        shown = {item: SHOWN_SUFFIXES[item.suffix] for item in files if len(item.parts) == 1 and item.suffix in SHOWN_SUFFIXES}
        pictures = [item for item in files if item.suffix.lower() in (".png", ".jpg", ".jpeg")]
        shown |= dict.fromkeys(pictures[:SHOWN_PICTURES], VisualizationType.IMAGE)
        return {f"{self.uri}/data/{item.as_posix()}": kind for item, kind in shown.items()}

    @property
    def _local(self) -> bool:
        return "://" not in self.uri
