"""What a step's cached result depends on besides its inputs: exactly the files of our code that it can reach."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from components.core.content import digest_file, digest_value
from components.core.paths import REPOSITORY

VARIABLE = "STYLEFORGE_CODE"
OUR_PACKAGES = ("components", "steps")
DATA_SUFFIXES = (".j2", ".tsv")
# Progress display, this file, and what keeps unfinished work: no result depends on them.
WITHOUT_EFFECT = frozenset({"components/core/logs.py", "steps/io/caching.py", "steps/io/checkpoint_store.py", "steps/io/workspace.py"})


def code_of(step_file: str) -> dict[str, str]:
    """The environment of the step in ``step_file`` (pass ``__file__``): a digest of the code that its result depends on.

    ZenML's own key sees the step's source but not the helpers that it calls, so that an edit there would be a stale hit. Here
    every module of ours that the step imports, directly or through others, inside functions or not, is a dependency, and so
    are the templates and tables that lie in those modules' packages. A step's environment is part of ZenML's key, and it is set
    where the pipeline is defined. (ZenML's own ``file_dependencies`` are read where the key is made; on Kubernetes that is a pod
    which does not have our code.)
    """
    files = dependencies(Path(step_file).resolve())
    return {VARIABLE: digest_value([[name, digest_file(REPOSITORY / name)] for name in files])}


def dependencies(module: Path, root: Path = REPOSITORY) -> list[str]:
    """All files that ``module`` depends on, itself included, as sorted paths relative to ``root``."""
    reached: set[Path] = set()
    waiting = [module.resolve()]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting.extend(_imported(path, root))
    packages = {path.parent for path in reached} - {root / package for package in OUR_PACKAGES}
    data = {item for package in packages for item in _data_files(package)}
    names = {path.relative_to(root).as_posix() for path in reached | data}
    return sorted(names - WITHOUT_EFFECT)


@cache
def _imported(path: Path, root: Path) -> frozenset[Path]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return frozenset(file for name in _names(tree) for file in _files(name, root))


def _names(tree: ast.AST) -> Iterator[str]:
    """Dotted names that may be modules: ``from a.b import c`` may mean the module a.b.c or a name in a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str, root: Path) -> Iterator[Path]:
    """Files that importing ``name`` runs: the packages' ``__init__.py`` on the way, and the module."""
    parts = name.split(".")
    if parts[0] not in OUR_PACKAGES:
        return
    folder = root
    for part in parts:
        if (folder / f"{part}.py").is_file():
            yield folder / f"{part}.py"
            return
        folder = folder / part
        if not folder.is_dir():
            return
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"


@cache
def _data_files(folder: Path) -> tuple[Path, ...]:
    return tuple(item for item in folder.rglob("*") if item.suffix in DATA_SUFFIXES and item.is_file())
