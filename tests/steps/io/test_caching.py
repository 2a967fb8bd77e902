from __future__ import annotations

import ast
from pathlib import Path

import pytest

from components.core.paths import REPOSITORY
from steps.io.caching import dependencies

STEPS = {path.stem: path for path in sorted((REPOSITORY / "steps").glob("*/*.py")) if "@step" in path.read_text(encoding="utf-8")}


def _repository(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_everything_in_reach_counts_and_nothing_else(tmp_path: Path) -> None:
    root = _repository(
        tmp_path,
        {
            "steps/__init__.py": "",
            "steps/work.py": "import os\nfrom components.core.errors import Oops\ndef work():\n    from components.box import lid\n",
            "steps/other.py": "",
            "components/__init__.py": "",
            "components/core/errors.py": "class Oops(Exception): ...",
            "components/box/__init__.py": "",
            "components/box/lid.py": "import components.box.hinge",
            "components/box/hinge.py": "from components.box import lid",
            "components/box/unused.py": "",
            "components/box/table.tsv": "",
            "components/box/pages/page.html.j2": "",
            "components/far/__init__.py": "",
        },
    )
    assert dependencies(root / "steps" / "work.py", root) == [
        "components/__init__.py",
        "components/box/__init__.py",
        "components/box/hinge.py",
        "components/box/lid.py",
        "components/box/pages/page.html.j2",
        "components/box/table.tsv",
        "components/core/errors.py",
        "steps/work.py",
    ]


@pytest.mark.parametrize(
    ("step", "within", "without"),
    [
        ("scan", "components/styledata/manifest.py", "components/diffusion"),
        ("validate", "components/styledata/validation.html.j2", "components/diffusion"),
        ("split", "components/evaluation/features.py", "components/diffusion"),
        ("fine_tune", "components/diffusion/training/objective.py", "components/evaluation"),
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
    assert within in found
    assert not [name for name in found if name.startswith(without)]
    assert "components/core/content.py" in found
    assert all((REPOSITORY / name).is_file() for name in found)


@pytest.mark.parametrize("step", STEPS)
def test_progress_display_is_no_dependency(step: str) -> None:
    assert "components/core/logs.py" not in dependencies(STEPS[step])


def test_no_import_that_could_not_be_seen() -> None:
    """Relative imports and importlib would hide a dependency from the cache."""
    for package in ("components", "steps"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                assert not (isinstance(node, ast.ImportFrom) and node.level), path
                assert not (isinstance(node, ast.Attribute) and node.attr in ("import_module", "__import__")), path
