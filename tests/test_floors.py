"""The house: imports only point down the floors, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from components.core.paths import FLOORS, REPOSITORY

FILES = {
    path.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", "."): path
    for floor in FLOORS
    for path in sorted((REPOSITORY / floor).rglob("*.py"))
}
HEIGHT = {floor: height for height, floor in enumerate((*FLOORS, "components.core"))}


def _module(name: str) -> str | None:
    """The file of ours that ``name`` is, or is a name in."""
    while name:
        for found in (name, f"{name}.__init__"):
            if found in FILES:
                return found
        name = name.rpartition(".")[0]
    return None


def _imports(path: Path, *, start: bool) -> Iterator[str]:
    """Modules of ours that a file imports; with ``start`` only those that importing it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
            typing_only = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            if not (start and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or typing_only)):
                waiting.extend(ast.iter_child_nodes(node))
        yield from (found for name in names if (found := _module(name)) is not None)


def _floor(module: str) -> str:
    return "components.core" if module.startswith("components.core.") else module.split(".")[0]


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module: str) -> None:
    up = [name for name in _imports(FILES[module], start=False) if HEIGHT[_floor(name)] < HEIGHT[_floor(module)]]
    assert not up, f"{module} imports {', '.join(up)} from a floor above"


def test_zenml_ends_at_the_steps() -> None:
    for module in (name for name in FILES if name.startswith("components.")):
        imports = [node for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
        assert not [node for node in imports if (node.module or "").split(".")[0] == "zenml"], module


def test_no_circle() -> None:
    graph = {module: {name for name in _imports(path, start=False) if name != module} for module, path in FILES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("imports go in a circle: " + " → ".join(error.args[1]))


@pytest.mark.parametrize("sibling", sorted(path.name for path in (REPOSITORY / "components").iterdir() if (path / "__init__.py").is_file()))
def test_siblings_meet_through_plain_data(sibling: str) -> None:
    """The rooms of ``components/`` import themselves and ``core``, so that each can be read and used alone."""
    for module, path in FILES.items():
        if module.startswith(f"components.{sibling}."):
            others = {name.split(".")[1] for name in _imports(path, start=False) if name.startswith("components.")} - {
                sibling,
                "core",
                "__init__",
            }
            assert not others, f"{module} imports {', '.join(sorted(others))}"


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_file_is_one_idea(module: str) -> None:
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= 400
