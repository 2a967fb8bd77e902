"""The wheel is an application: one name in site-packages, the tree inside it, and commands that work from any folder."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from components.core.paths import FLOORS, REPOSITORY
from infra.wheel import TREE

SETTINGS = ("training.steps=2", "sampling.limit=8", "sampling.repeats=1", "sampling.steps=2", "scoring.bootstrap=20", "attention.prompts=0")
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]
OUTSIDE = ("PYTHONPATH", "STYLEFORGE_HOME", "MLFLOW_TRACKING_URI")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the working tree with the build tools that are installed."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=REPOSITORY, check=True, capture_output=True
    )
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_tree_under_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"styleforge"}
    assert "styleforge = styleforge.__main__:main" in entry
    listed = subprocess.run(["git", "ls-files", *TREE], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout.split()
    if listed:
        assert names >= {f"styleforge/{name}" for name in listed}
    assert set(FLOORS) <= set(TREE)
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that holds the wheel and what it depends on, and nothing of this working tree."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # The dependencies without the editable install: Python reads no .pth in a folder that a .pth names.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--force-reinstall", str(wheel)], check=True, capture_output=True)
    assert {path.name.partition("-")[0] for path in packages.iterdir()} == {"styleforge", "dependencies.pth"}
    return folder / "bin"


def _run(command: list[str], folder: Path, expected: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in OUTSIDE}
    environment |= {"HOME": str(folder), "KUBECONFIG": str(folder / "none")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_installed_wheel_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    def styleforge(*arguments: str, expected: int = 0) -> str:
        return _run([str(installed / "styleforge"), *arguments], tmp_path, expected)

    def python(program: str, *arguments: str) -> str:
        return _run([str(installed / "python"), "-c", program, *arguments], tmp_path).strip()

    tree = Path(python("import styleforge; print(styleforge.ROOT)"))
    assert tree.is_relative_to(installed.parent)

    result = json.loads(styleforge("demo", *SMALL, "--json").splitlines()[-1])
    assert result["status"] == "completed" and result["model"]["name"] == "styleforge-anime"
    again = json.loads(styleforge("run", "demo", *SMALL, "--json").splitlines()[-1])
    assert again["model"]["version"] == result["model"]["version"] and "fine_tune" in again["cached"]
    for command in ("validate", "config"):
        styleforge(command, "pocket")
    styleforge("stack", "apply", "local")
    styleforge("sample", "styleforge-anime@challenger", "a red house", "--steps", "2", "--out", "pictures")
    # Two training steps satisfy no gate; to be refused it has been read and asked.
    styleforge("promote", "styleforge-anime@challenger", expected=3)
    # The manifest is there; the cluster is not.
    styleforge("schedule", "list", expected=2)
    assert python("import styleforge; from components.cluster.schedule_manifests import TEMPLATE; print(TEMPLATE.is_file())") == "True"
    # As `mlflow models serve` loads it: by the code beside the model.
    program = (
        "import mlflow, sys; mlflow.set_tracking_uri(sys.argv[1]); model = mlflow.pyfunc.load_model('models:/styleforge-anime@challenger');"
        "print(len(model.predict([{'prompt': 'a red house'}], {'steps': 2})))"
    )
    assert python(program, result["model"]["tracking_uri"]).splitlines()[-1] == "1"
