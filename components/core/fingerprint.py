"""Digests of the local files and folders that a run's settings point to, so that changes in them are noticed."""

import json
import logging
from pathlib import Path

from components.core.content import digest_file, digest_value
from components.core.paths import state, write_json

# Hashing a few gigabytes of weights at every start would cost more than a cached run; small files are cheap to read again.
REMEMBERED_SIZE = 8 * 2**20
_logger = logging.getLogger(__name__)


def fingerprint(path: Path) -> str:
    """sha256 of a file, or of the sorted relative paths and contents of a folder's files, hidden ones left out; else FileNotFoundError.

    Digests of files of 8 MiB and more are cached under STYLEFORGE_HOME by path, size, inode and times.
    """
    path = Path(path)
    memory = _Memory()
    if path.is_file():
        digest = memory.digest(path)
    elif path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file() and not _hidden(item.relative_to(path)))
        digest = digest_value([[item.relative_to(path).as_posix(), memory.digest(item)] for item in files])
    else:
        raise FileNotFoundError(path)
    memory.save()
    return digest


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


class _Memory:
    """Cached digests of large files. A damaged cache is discarded, never trusted."""

    def __init__(self) -> None:
        self._file = state("cache") / "digests.json"
        self._changed = False
        self._known: dict[str, str] = {}
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(known, dict):
            self._known = {str(key): str(value) for key, value in known.items()}

    def digest(self, path: Path) -> str:
        about = path.stat()
        if about.st_size < REMEMBERED_SIZE:
            return digest_file(path)
        key = digest_value([str(path.resolve()), about.st_size, about.st_ino, about.st_mtime_ns, about.st_ctime_ns])
        if key not in self._known:
            self._known[key] = digest_file(path)
            self._changed = True
        return self._known[key]

    def save(self) -> None:
        if self._changed:
            write_json(self._file, self._known)
