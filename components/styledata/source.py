"""Where pictures come from: a local folder, or any URL that fsspec can read."""

import errno
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from components.core.errors import InputError, ServiceUnreachable
from components.core.paths import atomic_folder

_ATTEMPTS = 3


def is_url(location: str) -> bool:
    """Whether a location is for fsspec (``s3://…``, ``zip://*::…``) and not a local folder."""
    return "://" in location or "::" in location


def open_source(location: str, into: Path) -> Path:
    """A local folder with the pictures of ``location``: itself if local, else downloaded to ``into``, whole or not at all.

    Hidden files are not downloaded. Raises InputError if there is no such folder or protocol, ServiceUnreachable if the store does not
    answer or refuses.
    """
    if is_url(location):
        return _download(location, into)
    folder = Path(location).expanduser()
    if not folder.exists():
        remedy = "check the path; it is relative to the current folder"
        raise InputError(location, "no such folder", expected="a folder of images", remedy=remedy)
    if not folder.is_dir():
        raise InputError(location, "is a file", expected="a folder of images", remedy=f"for an archive, write zip://*::{location}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(location, "no permission to read the folder", expected="read permission", remedy="fix the permissions")
    return folder


def list_folders(location: str) -> list[str]:
    """Names of the sub-folders of a folder or URL, sorted; hidden ones are left out."""
    if not is_url(location):
        folder = open_source(location, Path())
        return sorted(item.name for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    filesystem, root = _connect(location)
    rows = _retry(lambda: filesystem.ls(root, detail=True), location)
    base = str(filesystem._strip_protocol(root)).rstrip("/")
    # Some stores list the folder itself too.
    folders = {str(filesystem._strip_protocol(row["name"])).rstrip("/") for row in rows if row["type"] == "directory"} - {base}
    return sorted(name for name in (PurePosixPath(path).name for path in folders) if not name.startswith("."))


def read_beside(location: str, name: str, limit: int) -> bytes | None:
    """The first ``limit`` bytes of the file ``name`` in a folder or URL; None if there is none."""
    if not is_url(location):
        path = Path(location).expanduser() / name
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                return file.read(limit)
        except OSError as error:
            raise InputError(str(path), f"cannot be read ({error.strerror})", expected="a readable file") from error
    filesystem, root = _connect(location)
    path_there = f"{root.rstrip('/')}/{name}"

    def read() -> bytes | None:
        if not filesystem.isfile(path_there):
            return None
        with filesystem.open(path_there, "rb", block_size=limit) as file:
            return bytes(file.read(limit))

    found: bytes | None = _retry(read, location)
    return found


def walk(folder: Path) -> Iterator[str]:
    """Relative POSIX paths of all files below ``folder``, sorted; hidden files and folders are left out."""
    found: list[str] = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(root, name) for name in files if not name.startswith("."))
        # A dangling link is kept, so that reading it fails and names it; a pipe or a device would block.
        found += [path.relative_to(folder).as_posix() for path in paths if path.is_file() or path.is_symlink()]
    return iter(sorted(found))


def _download(url: str, into: Path) -> Path:
    filesystem, root = _connect(url)
    files = _list(filesystem, root, url)
    if not files:
        raise InputError(url, "holds no files, or does not exist", expected="a folder of images", remedy="check the URL")
    with atomic_folder(into) as folder:
        for remote, relative in files:
            local = folder / relative
            local.parent.mkdir(parents=True, exist_ok=True)
            _retry(partial(filesystem.get_file, remote, str(local)), url)
    return into


def _connect(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        return _retry(lambda: url_to_fs(url), url)
    except ImportError as error:
        raise InputError(url, f"needs a package that is not installed ({error})", remedy="install it into this environment") from error
    except ValueError as error:
        raise InputError(url, f"not a URL that fsspec knows ({error})", expected="for example s3://bucket/folder") from error


def _list(filesystem: Any, root: str, url: str) -> list[tuple[str, PurePosixPath]]:
    """Pairs of remote path and path relative to ``root``, sorted, without hidden files."""
    base = str(filesystem._strip_protocol(root)).rstrip("/")
    files = []
    for remote in sorted(_retry(lambda: filesystem.find(root), url)):
        relative = PurePosixPath(str(filesystem._strip_protocol(remote)).removeprefix(base).lstrip("/"))
        if not relative.parts:
            raise InputError(url, "is a file", expected="a folder of images")
        if ".." in relative.parts:
            # An archive may hold paths that lead outside it.
            raise InputError(url, f"holds the path {relative}, which leaves the folder", remedy="do not use this archive")
        if not any(part.startswith(".") for part in relative.parts):
            files.append((remote, relative))
    return files


def _retry(action: Callable[[], Any], url: str) -> Any:
    """Call ``action``, retrying after a pause if the network fails; a refusal is final."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    attempts = Retrying(retry=retry_if_exception(_transient), stop=stop_after_attempt(_ATTEMPTS), wait=wait_exponential(0.2), reraise=True)
    try:
        return attempts(action)
    except FileNotFoundError as error:
        raise InputError(url, "does not exist", expected="a folder of images", remedy="check the URL") from error
    except (ImportError, ValueError):
        raise
    except Exception as error:
        if _local(error):
            raise
        # Every store's client has its own errors (botocore, aiohttp, google.auth, ...), and none of them is a bug of ours.
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "check the network, credentials and URL"
        raise ServiceUnreachable(url, f"the store does not answer or refuses access ({reason})", remedy=remedy) from error


def _transient(error: BaseException) -> bool:
    definite = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
    return isinstance(error, OSError) and not isinstance(error, definite) and not _local(error)


def _local(error: BaseException) -> bool:
    """Whether the local disk is full or read-only, which the caller handles (see ``storage_errors``)."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
