"""What one family is stays in its file: everywhere else the code asks the interface."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from components.core.paths import REPOSITORY
from components.diffusion.models import layouts
from components.diffusion.models.loading import FAMILIES

MODELS = REPOSITORY / "components" / "diffusion" / "models"
CONSTANTS = {name for name, value in vars(layouts).items() if isinstance(value, layouts.Layout)}
NAMES = {*CONSTANTS, *FAMILIES, *(family.__name__ for family in FAMILIES.values()), *(family.__module__ for family in FAMILIES.values())}
# Where a UNet is meant: formats of other programs that hold one, and the ways of earlier models, which are still read.
UNET = {"components/diffusion/export/formats.py", "components/diffusion/export/original.py", "components/diffusion/training/recipe.py"}


def words(path: Path) -> Iterator[str]:
    """Names, attributes, modules and texts of a file, but not its docstrings and comments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.alias):
            yield node.id if isinstance(node, ast.Name) else node.name
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_no_family_and_no_unet_is_named_outside() -> None:
    found = []
    for floor in ("components", "steps", "pipelines"):
        for path in sorted((REPOSITORY / floor).rglob("*.py")):
            name = path.relative_to(REPOSITORY).as_posix()
            # The embedded bases are made there: one is a UNet, the others are transformers.
            if MODELS in path.parents or name.startswith(("components/bases/", "components/pocket/")):
                continue
            for word in words(path):
                if word in NAMES or (name not in UNET and re.search(r"\bunet\b", word)):
                    found.append(f"{name}: {word[:60]}")
    assert not found


def test_a_family_is_a_layout_and_a_class() -> None:
    assert list(FAMILIES) == [family.layout.pipeline for family in FAMILIES.values()] == list(layouts.LAYOUTS)
