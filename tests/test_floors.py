"""The house: imports only point down the floors, and never in a circle."""

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
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
HEIGHT = {floor: height for height, floor in enumerate((*FLOORS, "components.core"))}


def _module(name: str) -> str | None:
    """The file of ours that ``name`` is, or is a name in."""
    while name:
        for found in (name, f"{name}.__init__"):
            if found in FILES:
                return found
        name = name.rpartition(".")[0]
    return None


def _imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (found for name in names if (found := _module(name)) is not None)


def _floor(module: str) -> str:
    return "components.core" if module.startswith("components.core.") else module.split(".")[0]


def test_imports_point_down() -> None:
    up = [
        f"{module} imports {name}"
        for module, path in FILES.items()
        for name in _imports(path)
        if HEIGHT[_floor(name)] < HEIGHT[_floor(module)]
    ]
    assert not up


def test_zenml_ends_at_the_steps() -> None:
    for module in (name for name in FILES if name.startswith("components.")):
        imports = [node for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
        assert not [node for node in imports if (node.module or "").split(".")[0] == "zenml"], module


def test_no_circle() -> None:
    graph = {module: {name for name in _imports(path) if name != module} for module, path in FILES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("imports go in a circle: " + " → ".join(error.args[1]))


@pytest.mark.parametrize("sibling", sorted(path.name for path in (REPOSITORY / "components").iterdir() if (path / "__init__.py").is_file()))
def test_siblings_meet_through_plain_data(sibling: str) -> None:
    """The rooms of ``components/`` import themselves and ``core``, so that each can be read and used alone."""
    for module, path in FILES.items():
        if module.startswith(f"components.{sibling}."):
            others = {name.split(".")[1] for name in _imports(path) if name.startswith("components.")} - {
                sibling,
                "core",
                "__init__",
            }
            assert not others, f"{module} imports {', '.join(sorted(others))}"


def test_a_file_is_one_idea_and_a_function_fits_a_screen() -> None:
    long = []
    for module, path in FILES.items():
        text = path.read_text(encoding="utf-8")
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        long += [f"{module}.{node.name}" for node in functions if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION]
        long += [module] if text.count("\n") > LONGEST_FILE else []
    assert not long
