"""The part of a step's cache key that is ours: every file and library that its result depends on, and nothing else."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.core.dependencies import imported_names, reach
from components.core.paths import REPOSITORY
from components.registry.packaging import shipped_files
from steps.io import caching
from steps.io.caching import dependencies

STEPS = {
    name: path
    for path in sorted((REPOSITORY / "steps").glob("*/*.py"))
    for name in re.findall(r"^@step\(.*\)\ndef (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_everything_in_reach_counts_and_nothing_else(tmp_path: Path) -> None:
    files = {
        "steps/__init__.py": "",
        "steps/work.py": "import os\nfrom components.core.errors import Oops\ndef work():\n    from components.box import lid\n",
        "steps/other.py": "",
        "components/__init__.py": "",
        "components/core/errors.py": "if TYPE_CHECKING:\n    import torch\n    from components.far import away",
        "components/box/__init__.py": "",
        "components/box/lid.py": "import components.box.hinge",
        "components/box/hinge.py": "from components.box import lid\nimport numpy.linalg",
        "components/box/unused.py": "",
        "components/box/table.tsv": "",
        "components/box/weights.safetensors": "",
        "components/box/.hidden": "",
        "components/box/pages/page.css": "",
        "components/box/inner/__init__.py": "",
        "components/box/inner/data.json": "",
        "components/far/__init__.py": "",
        "components/far/away.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = reach(tmp_path / "steps" / "work.py", root=tmp_path)
    assert found.code == (
        "components/__init__.py", "components/box/__init__.py", "components/box/hinge.py", "components/box/lid.py",
        "components/core/errors.py", "steps/work.py",
    )  # fmt: skip
    assert found.data == ("components/box/pages/page.css", "components/box/table.tsv")
    assert found.libraries == {"os", "numpy"}


def _names(node: ast.AST) -> Iterator[str]:
    """The same by Python's own grammar."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _names(child)


def test_imports_are_those_that_python_sees() -> None:
    for path in [path for folder in ("components", "steps", "tests") for path in (REPOSITORY / folder).rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        # Texts that hold code of their own count too: more than is needed, and never less.
        assert imported_names(text) >= set(_names(ast.parse(text))), path
        if path.is_relative_to(REPOSITORY / "components") or path.is_relative_to(REPOSITORY / "steps"):
            ours = {name for name in imported_names(text) if name.startswith(("components", "steps"))}
            assert ours <= set(_names(ast.parse(text))), path


def _key(step: str) -> str:
    """The digest in the environment of a step that is defined now."""
    made = runpy.run_path(str(STEPS[step]))[step]
    return str(made.configuration.environment[caching.VARIABLE])


@pytest.mark.parametrize(
    ("changed", "affected", "unaffected"),
    [
        ("components/diffusion/sampling/serving.py", "register", "fine_tune"),
        ("components/diffusion/models/sdxl.py", "register", "score"),
        ("components/evaluation/templates/report.css", "report", "fine_tune"),
        ("components/evaluation/banks/builtin.tsv", "sample_bank", "register"),
        ("components/registry/model_card.md.j2", "register", "report"),
        ("torch", "fine_tune", "scan"),
        ("torch", "register", "report"),
        ("diffusers", "sample_base", "score"),
        ("transformers", "score", "validate"),
    ],
)
def test_an_edit_or_another_version_changes_the_keys_of_the_steps_that_use_it(
    changed: str, affected: str, unaffected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {step: _key(step) for step in (affected, unaffected)}
    digest, version = caching.digest_file, caching.version
    monkeypatch.setattr(caching, "digest_file", lambda path: "edited" if path == REPOSITORY / changed else digest(path))
    monkeypatch.setattr(caching, "version", lambda name: "0.0.1" if name == changed else version(name))
    assert _key(affected) != before[affected] and _key(unaffected) == before[unaffected]


def test_builds_of_one_version_share_their_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.importlib.metadata, "version", lambda _: "2.13.0+cu130")
    assert caching.version.__wrapped__("torch") == "2.13.0"


@pytest.mark.parametrize(
    ("step", "within", "without"),
    [
        ("scan", "components/styledata/manifest.py", "components/diffusion"),
        ("validate", "components/styledata/validation.html.j2", "components/diffusion"),
        ("split", "components/evaluation/extractors/clip.py", "components/diffusion"),
        ("fine_tune", "components/diffusion/objectives/losses.py", "components/evaluation"),
        ("sample_bank", "components/evaluation/prompts.py", "components/styledata"),
        ("explain", "components/diffusion/attention/heatmaps.py", "components/diffusion/training/loop.py"),
        ("sample_base", "components/diffusion/sampling/sampler.py", "components/diffusion/training/loop.py"),
        ("score", "components/evaluation/metrics.py", "components/diffusion"),
        ("report", "components/evaluation/report.py", "components/registry"),
        ("register", "components/registry/versions.py", "components/evaluation"),
    ],
)
def test_real_steps(step: str, within: str, without: str) -> None:
    found = dependencies(STEPS[step])
    assert within in found and "components/core/content.py" in found
    assert not [name for name in found if name.startswith(without)]
    assert not caching.WITHOUT_EFFECT & set(found)


def test_what_is_shipped_is_what_serving_imports() -> None:
    shipped = set(shipped_files())
    assert {"components/__init__.py", "components/core/model_card.py", "components/diffusion/sampling/serving.py"} <= shipped
    assert not [name for name in shipped if not name.startswith(("components/__init__", "components/core/", "components/diffusion/"))]
    assert "components/diffusion/training/loop.py" not in shipped


def test_no_import_that_could_not_be_seen() -> None:
    """Relative imports and importlib would hide a dependency from the cache."""
    for package in ("components", "steps"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                assert not (isinstance(node, ast.ImportFrom) and node.level), path
                assert not (isinstance(node, ast.Attribute) and node.attr in ("import_module", "__import__")), path
