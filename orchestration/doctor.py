"""``styleforge doctor``: checks whether this machine is ready for a run, within seconds and without heavy imports."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from components.cluster.in_cluster import public, version
from components.core.checks import Check
from components.core.devices import VARIABLE, Gpu, cuda_of_torch, driver_too_old, nvidia_gpus, wanted_device
from components.core.errors import StyleForgeError
from components.core.gpus import VARIABLE as GPU_VARIABLE
from components.core.gpus import usual_gpu
from components.core.paths import REPOSITORY, embedded_weights, home
from components.registry.tracking import check_reachable, public_uri, tracking_uri
from orchestration.shipped import fitting

PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "safetensors", "zenml", "mlflow", "great_expectations", "torchmetrics", "numpy",
    "pandas", "pillow", "pydantic", "imagehash", "matplotlib", "jinja2", "fsspec", "typer", "rich", "filelock", "psutil",
)  # fmt: skip
NEEDED_DISK_GB = 2.0
NEEDED_MEMORY_GB = 3.0
GB = 1e9


def examine() -> list[Check]:
    """Run all checks, in the order in which one would fix problems; none of them raises."""
    checks: list[Callable[[], Check]] = [_python, _packages, _versions, _home, _disk, _memory, _device, _gpu_memory, _mlflow, _weights]
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
    missing = [name for name in PACKAGES if version(name) is None]
    detail = f"missing: {', '.join(missing)}" if missing else f"{len(PACKAGES)} found"
    return Check("packages", not missing, detail, "run `make setup`" if missing else "")


def _versions() -> Check:
    """Compare installed versions with the pinned, tested ones; others may work too."""
    path = REPOSITORY / "constraints.txt"
    pins = dict(_pins(path)) if path.is_file() else {}
    installed = {name: found for name in pins if (found := version(name))}
    other = [f"{name} {found} (tested with {pins[name]})" for name, found in installed.items() if public(found) != public(pins[name])]
    if not pins:
        return Check("versions", True, "nothing to compare with", needed=False)
    return Check("versions", not other, "; ".join(other[:4]) or "as tested", "run `make setup`" if other else "", needed=False)


def _pins(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        name, separator, pin = line.partition("#")[0].strip().partition("==")
        if separator and name in PACKAGES:
            yield name, pin.partition(";")[0].strip()


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
    """Report the device that torch will use, without spending seconds on importing torch."""
    wanted, gpus = wanted_device(), nvidia_gpus()
    if wanted not in ("", "cuda") or (not gpus and not wanted):
        kind = "CPU" if wanted in ("", "cpu") else wanted
        return Check("device", True, f"{kind}, {os.cpu_count() or 1} core(s): enough for the pocket base; real bases want a GPU")
    fault, remedy = _fault(gpus)
    # If the variable asks for a GPU, no run works without one.
    return Check("device", not fault, fault or f"{len(gpus)} × {gpus[0].name}", remedy, needed=bool(wanted))


def _fault(gpus: Sequence[Gpu]) -> tuple[str, str]:
    """Return what prevents torch from using the GPUs, and the remedy; two empty strings if nothing does."""
    built_for = cuda_of_torch()
    if not gpus:
        return f"no GPU answers nvidia-smi, but {VARIABLE}=cuda", f"run it where there is one, or unset {VARIABLE} to use the CPU"
    if built_for is None:
        return f"{gpus[0].name}, but torch is built without CUDA", "install a CUDA build of torch to use the GPU"
    if oldest := driver_too_old(gpus[0], built_for):
        return f"{gpus[0].name}, but driver {gpus[0].driver} is too old for torch's CUDA {built_for}", f"install driver {oldest} or newer"
    return "", ""


def _gpu_memory() -> Check:
    """Report which shipped configurations fit the GPU that runs will use."""
    gpu = usual_gpu()
    if gpu is None:
        return Check("GPU memory", True, f"no GPU is known: `styleforge plan CONFIG` says what a run takes; {GPU_VARIABLE} names the GPU")
    rows = fitting(gpu.usable)
    fit = [name if not row.settings else f"{name} with {' '.join(row.settings)}" for name, row in rows.items() if row]
    others = ", ".join(name for name, row in rows.items() if row is None)
    detail = f"{gpu.name}, of the shipped configurations it fits {', '.join(fit) or 'none'}" + (f"; not {others}" if fit and others else "")
    return Check("GPU memory", bool(fit), detail, "" if fit else "`styleforge plan CONFIG` says what would help", needed=False)


def _mlflow() -> Check:
    uri = tracking_uri()
    check_reachable(uri)
    return Check("mlflow", True, public_uri(uri))


def _weights() -> Check:
    needed = {"base": "model_index.json", "evaluator": "config.json"}
    missing = [part for part, file in needed.items() if not (embedded_weights(part) / file).is_file()]
    detail = f"missing: {', '.join(missing)}" if missing else "base and evaluator found"
    remedy = "run `styleforge base train pocket`, or get them from the repository" if missing else ""
    return Check("pocket weights", not missing, detail, remedy)
