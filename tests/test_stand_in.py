"""What the stand-in replaces has the signatures of the real functions, so that a change there is named here and not in a hundred tests."""

import ast

import pytest

from components.core.paths import REPOSITORY
from tests.stand_in import QUICK

MODULES = {name: ast.parse(text) for name, text in QUICK.items() if name.endswith(".py")}


def _functions(tree: ast.Module) -> dict[str, ast.arguments]:
    return {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}


def _signature(args: ast.arguments) -> tuple[list[str], int, dict[str, bool]]:
    """Positional arguments, how many of them have defaults, and which keyword-only ones have."""
    keywords = {item.arg: default is not None for item, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)}
    return [item.arg for item in args.args], len(args.defaults), keywords


@pytest.mark.parametrize("name", sorted(MODULES))
def test_functions_are_called_as_the_real_ones(name: str) -> None:
    real = ast.parse((REPOSITORY / name).read_text(encoding="utf-8"))
    functions = _functions(real)
    for function, quick in _functions(MODULES[name]).items():
        assert function in functions, f"{name} has no {function} any more"
        assert not quick.kwarg or function == "render_report"
        assert quick.kwarg or _signature(quick) == _signature(functions[function]), function
