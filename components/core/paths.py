"""The one place that decides where state is kept and how files are written: whole or not at all."""

import contextlib
import errno
import functools
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.core.errors import FULL, InputError, StorageError

REPOSITORY = Path(__file__).resolve().parents[2]
FLOORS = ("cli", "runs", "orchestration", "pipelines", "steps", "components")
"""Our top-level packages, from the command line down to the work itself; imports only point downwards."""
_START = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"


def python_module(name: str, *arguments: str) -> list[str]:
    """The command line that runs one of our modules in its own process, from any folder and however StyleForge is installed."""
    return [sys.executable, "-c", _START, str(REPOSITORY), name, *arguments]


def home() -> Path:
    """The state folder: ``$STYLEFORGE_HOME``, else ``./.styleforge``; created if missing, InputError if it is not writable."""
    folder = Path(os.environ.get("STYLEFORGE_HOME") or ".styleforge").expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        raise InputError(
            f"STYLEFORGE_HOME={folder}", f"the folder cannot be written ({error.strerror})",
            expected="a folder that this user may write to", remedy="set STYLEFORGE_HOME to one, or fix the permissions",
        ) from error  # fmt: skip
    return folder


HOME = {
    "zenml": ("ZenML's store: runs, cache and artifacts", "every step runs again"),
    "mlflow": ("the MLflow database and, under `artifacts/`, runs and registered models", "the registered models are gone"),
    "runs": ("`report.html` and `result.json` of each run, `comparison/` of each comparison", "nothing else is lost"),
    "validation": ("pages written by `styleforge validate`", "nothing else is lost"),
    "checkpoints": ("checkpoints of interrupted trainings", "interrupted trainings start again"),
    "pictures": ("images of interrupted sampling", "interrupted sampling starts again"),
    "cache": ("features, class images, generated captions, downloads, digests of large files", "they are computed or downloaded again"),
    "work": ("work in progress", "nothing is lost, unless a command is running"),
    "scratch": ("work in progress", "nothing is lost, unless a command is running"),
    "tmp": ("work in progress", "nothing is lost, unless a command is running"),
    "base-training": ("images and checkpoints of `styleforge base train`", "the training starts again"),
    "art": ("families of pictograms", "`styleforge art fetch` downloads them again"),
    "base-styles": ("style sets of `styleforge base check`", "they are rendered again"),
}
"""What each folder in the home holds, and what removing it costs."""


@functools.cache
def _try_to_write(folder: Path) -> None:
    """Write a temporary file; a success is cached for the process, a failure is not."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def state(*parts: str) -> Path:
    """A folder under :func:`home`, created if missing; the first part is one of :data:`HOME`."""
    if parts and parts[0] not in HOME:
        raise ValueError(f"{parts[0]!r} is not a folder of the home")
    folder = home().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise a :class:`StorageError` that names ``path`` if the disk refuses a write, an InputError for a file in a folder's place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            remedy = "choose another place, or move the file"
            raise InputError(str(path), f"a file is in the way ({error.filename})", expected="a folder", remedy=remedy) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            problem = f"the disk refused the write ({error.strerror})"
            raise StorageError(str(path), problem, expected="free space and write permission", remedy=FULL) from error
        raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on failure."""
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffix stays last, since writers such as Pillow choose the format by it. A process id would not be unique: every pod has a 1.
        temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}.tmp{path.suffix}")
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it replaces ``path``, on failure it is removed."""
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
                os.replace(path, old / "old")
                os.replace(temporary, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link ``source`` as ``target``; copy where the two are on different disks or links are not allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that StyleForge wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object per line."""
    # Not splitlines(), which also splits at U+0085 and U+2028; JSON leaves these unescaped.
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line.strip()]


def embedded_weights(part: str) -> Path:
    """Folder of a part of the embedded weights: a base in diffusers layout, an evaluator (CLIP) or a probe."""
    return REPOSITORY / "components" / "bases" / "weights" / part
