"""``styleforge doctor``: is this machine fit for a run? Every check takes at most seconds and imports nothing heavy."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from components.checks import Check
from components.errors import StyleForgeError
from components.paths import REPOSITORY, home, pocket_weights
from components.registry.tracking import check_reachable, public_uri, tracking_uri

PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "zenml", "mlflow", "great_expectations", "torchmetrics", "numpy",
    "pandas", "pillow", "pydantic", "imagehash", "matplotlib", "jinja2", "fsspec", "typer", "rich", "filelock", "psutil",
)  # fmt: skip
NEEDED_DISK_GB = 2.0
NEEDED_MEMORY_GB = 3.0
GB = 1e9


def examine() -> list[Check]:
    """All checks, in the order in which one would mend them. None of them raises."""
    checks: list[Callable[[], Check]] = [_python, _packages, _versions, _home, _disk, _memory, _device, _mlflow, _weights]
    return [_safely(check) for check in checks]


def _safely(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except StyleForgeError as error:
        return Check(check.__name__.strip("_"), False, f"{error.where}: {error.problem}", error.remedy)


def _python() -> Check:
    ok = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Check("python", ok, platform.python_version(), "" if ok else "use Python 3.11, 3.12 or 3.13")


def _packages() -> Check:
    missing = [name for name in PACKAGES if package_version(name) is None]
    detail = f"missing: {', '.join(missing)}" if missing else f"{len(PACKAGES)} found"
    return Check("packages", not missing, detail, "run `make setup`" if missing else "")


def _versions() -> Check:
    """The pinned versions are the tested ones; others may do."""
    path = REPOSITORY / "constraints.txt"
    pins = dict(_pins(path)) if path.is_file() else {}
    installed = {name: found for name in pins if (found := package_version(name))}
    other = [f"{name} {found} (tested with {pins[name]})" for name, found in installed.items() if _public(found) != _public(pins[name])]
    if not pins:
        return Check("versions", True, "nothing to compare with", needed=False)
    return Check("versions", not other, "; ".join(other[:4]) or "as tested", "run `make setup`" if other else "", needed=False)


def _pins(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, version = line.partition("#")[0].strip().partition("==")
        if separator and name in PACKAGES:
            yield name, version.partition(";")[0].strip()


def _public(version: str) -> str:
    return version.partition("+")[0]


def package_version(name: str) -> str | None:
    """The installed version of a package; None if it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _home() -> Check:
    return Check("home", True, f"{home()} (STYLEFORGE_HOME) can be written")


def _disk() -> Check:
    free = shutil.disk_usage(home()).free / GB
    ok = free >= NEEDED_DISK_GB
    return Check("disk", ok, f"{free:.1f} GB free", "" if ok else f"free some space: a pocket run needs {NEEDED_DISK_GB:.0f} GB")


def _memory() -> Check:
    available = psutil.virtual_memory().available / GB
    ok = available >= NEEDED_MEMORY_GB
    return Check("memory", ok, f"{available:.1f} GB available", "" if ok else "close other programs: a pocket run needs 3 GB", needed=False)


def _device() -> Check:
    """The device that torch will use, without the seconds that importing torch takes."""
    cores = os.cpu_count() or 1
    gpus = _gpus()
    built_for = _cuda_of_torch()
    if gpus and built_for is None:
        remedy = "install a CUDA build of torch to use the GPU"
        return Check("device", False, f"{gpus[0]}, but torch is built without CUDA", remedy, needed=False)
    if gpus:
        return Check("device", True, f"{len(gpus)} × {gpus[0]}")
    return Check("device", True, f"CPU, {cores} core(s): enough for the pocket base; real bases want a GPU")


def _gpus() -> list[str]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _cuda_of_torch() -> str | None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    tree = ast.parse((Path(spec.origin).parent / "version.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name) and target.id == "cuda" and isinstance(node.value, ast.Constant):
            return str(node.value.value) if node.value.value else None
    return None


def _mlflow() -> Check:
    uri = tracking_uri()
    check_reachable(uri)
    return Check("mlflow", True, public_uri(uri))


def _weights() -> Check:
    needed = {"base": "model_index.json", "evaluator": "config.json"}
    missing = [part for part, file in needed.items() if not (pocket_weights(part) / file).is_file()]
    detail = f"missing: {', '.join(missing)}" if missing else "base and evaluator found"
    return Check("pocket weights", not missing, detail, "run `styleforge pocket train`, or get them with the repository" if missing else "")
