"""What a module of ours can reach: the files whose code it may run, the data beside them, and the libraries that they import."""

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.core.paths import REPOSITORY

OUR_PACKAGES = ("components", "steps")
_NOT_DATA = (".py", ".pyc", ".safetensors")
"""Code is followed by its imports, and weights have digests of their own in the configuration."""
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


@dataclass(frozen=True)
class Reach:
    """Sorted paths, relative to the repository, of ``code`` and of the ``data`` files beside it, and top-level names of ``libraries``."""

    code: tuple[str, ...]
    data: tuple[str, ...]
    libraries: frozenset[str]


def reach(*modules: Path, root: Path = REPOSITORY) -> Reach:
    """Everything that ``modules`` can reach, themselves included: imports are followed wherever they stand, but for those of types only."""
    reached: set[Path] = set()
    libraries: set[str] = set()
    waiting = [module.resolve() for module in modules]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            files, names = _imports(path, root)
            waiting.extend(files)
            libraries |= names
    packages = {path.parent for path in reached} - {root / package for package in OUR_PACKAGES}
    data = {item for package in packages for item in _data_files(package)}
    return Reach(_relative(reached, root), _relative(data, root), frozenset(libraries))


def _relative(paths: set[Path], root: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(root).as_posix() for path in paths))


@cache
def _imports(path: Path, root: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Files of ours, and top-level names of everything else, that a file imports."""
    names = set(_names(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))))
    ours = {name for name in names if name.split(".")[0] in OUR_PACKAGES}
    return frozenset(file for name in ours for file in _files(name, root)), frozenset(name.split(".")[0] for name in names - ours)


def _names(node: ast.AST) -> Iterator[str]:
    """Dotted names that may be modules: ``from a.b import c`` may mean the module a.b.c or a name in a.b."""
    # Statements alone can import: what they compute is most of a file, and is passed over.
    for child in itertools.chain.from_iterable(getattr(node, block, ()) for block in _BLOCKS):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        else:
            yield from _names(child)


def _files(name: str, root: Path) -> Iterator[Path]:
    """Files that importing ``name`` runs: the packages' ``__init__.py`` on the way, and the module."""
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
    """Files of a package that are no code; the packages inside of it count where they are reached themselves."""
    found: list[Path] = []
    for item in package.iterdir():
        if item.name.startswith((".", "__pycache__")):
            continue
        if item.is_dir():
            found += [] if (item / "__init__.py").is_file() else _data_files(item)
        elif item.suffix not in _NOT_DATA:
            found.append(item)
    return tuple(found)
