"""What one of our modules can reach: the files whose code it may run, the data beside them, and the libraries that they import."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.core.paths import REPOSITORY

OUR_PACKAGES = ("components", "steps")
_NOT_DATA = (".py", ".pyc", ".safetensors")
"""Suffixes that are not data: code is found through imports, and weights have their own digests in the configuration."""
_IMPORT = re.compile(r"^[ ]*(?:from ([\w.]+) import (?:\(([^)]*)\)|([^\n#]+))|import ([^\n#]+))", re.MULTILINE)
_FOR_TYPES = re.compile(r"^( *)if TYPE_CHECKING:\n(?:\1 +[^\n]*\n?|\n)*", re.MULTILINE)


@dataclass(frozen=True)
class Reach:
    """Sorted paths, relative to the repository, of ``code`` and the ``data`` files beside it, and the top-level names of ``libraries``."""

    code: tuple[str, ...]
    data: tuple[str, ...]
    libraries: frozenset[str]


def reach(*modules: Path, root: Path = REPOSITORY, apart: Iterable[str] = ()) -> Reach:
    """Everything that ``modules`` can reach, themselves included: all imports are followed wherever they stand, except type-only ones.

    Files in ``apart`` are neither counted nor followed, unless they are among ``modules``.
    """
    reached: set[Path] = set()
    left_out = {root / name for name in apart} - {module.resolve() for module in modules}
    libraries: set[str] = set()
    waiting = [module.resolve() for module in modules]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            files, names = _imports(path, root)
            waiting.extend(files - left_out)
            libraries |= names
    packages = {path.parent for path in reached} - {root / package for package in OUR_PACKAGES}
    data = {item for package in packages for item in _data_files(package)}
    return Reach(_relative(reached, root), _relative(data, root), frozenset(libraries))


def _relative(paths: set[Path], root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(root).as_posix() for path in paths))


@cache
def _imports(path: Path, root: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Our files that a file imports, and the top-level names of everything else that it imports."""
    names = imported_names(path.read_text(encoding="utf-8"))
    ours = {name for name in names if name.split(".")[0] in OUR_PACKAGES}
    return frozenset(file for name in ours for file in _files(name, root)), frozenset(name.split(".")[0] for name in names - ours)


def imported_names(text: str) -> set[str]:
    """Dotted names in imports that may be modules: ``from a.b import c`` may mean the module a.b.c or a name in a.b.

    Relies on formatted code (one statement per line), since parsing all of it would take a twentieth of a fully cached run.
    """
    found: set[str] = set()
    for module, several, one, plain in _IMPORT.findall(_FOR_TYPES.sub("", text)):
        lines = (several or one or plain).splitlines()
        listed = (item.split("#")[0].split(" as ")[0].strip() for line in lines for item in line.split(","))
        found |= {f"{module}.{name}" if module else name for name in listed if name}
    return found


def _files(name: str, root: Path) -> Iterator[Path]:
    """Files that importing ``name`` runs: the ``__init__.py`` of each package on the way, and the module."""
    folder = root
    for part in name.split("."):
        if (folder / f"{part}.py").is_file():
            yield folder / f"{part}.py"
            return
        folder = folder / part
        if not folder.is_dir():
            return
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"


@cache
def _data_files(package: Path) -> tuple[Path, ...]:
    """Data files of a package; packages inside it are left out, since they count only if they are reached themselves."""
    found: list[Path] = []
    for item in package.iterdir():
        if item.name.startswith((".", "__pycache__")):
            continue
        if item.is_dir():
            found += [] if (item / "__init__.py").is_file() else _data_files(item)
        elif item.suffix not in _NOT_DATA:
            found.append(item)
    return tuple(found)
