"""The device that models run on: the machine's, or the one that STYLEFORGE_DEVICE names. Imports torch only where it must."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.errors import ConfigError

if TYPE_CHECKING:
    import torch

VARIABLE = "STYLEFORGE_DEVICE"
KINDS = ("cpu", "cuda", "mps", "xpu")
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""The oldest driver for each major release of CUDA: docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, table 1."""


def wanted_device() -> str:
    """The value of STYLEFORGE_DEVICE; empty if it is unset, ConfigError if it is not one of :data:`KINDS`."""
    wanted = os.environ.get(VARIABLE, "").strip()
    if wanted and wanted not in KINDS:
        raise ConfigError(
            f"{VARIABLE}={wanted}", "not a kind of device", expected=f"one of {', '.join(KINDS)}",
            remedy="unset it to use what the machine has; CUDA_VISIBLE_DEVICES chooses among several GPUs",
        )  # fmt: skip
    return wanted


def default_device(*kinds: str) -> torch.device:
    """The device that STYLEFORGE_DEVICE names; if it is unset, this machine's accelerator, else the CPU.

    Container images for GPUs set it, so that a node whose GPU torch cannot use raises ConfigError instead of training for weeks on the CPU.
    ``kinds`` are the accelerators that the caller supports (all if none is given); in place of any other the CPU is returned.
    """
    import torch

    found = _usable(wanted) if (wanted := wanted_device()) else _accelerator()
    return found if found and (not kinds or found.type in kinds) else torch.device("cpu")


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: on a CPU the C++ compiler that ``CXX`` names (default ``g++``)."""
    return device.type != "cpu" or shutil.which(os.environ.get("CXX", "g++")) is not None


@contextmanager
def half_attention(device: torch.device) -> Iterator[None]:
    """Compute attention on a CPU as plain products within the block: in bf16 the fused kernel's backward pass takes five times as long."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if device.type != "cpu":
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    # Despite its name, the setting applies to all devices; without it the products are computed in fp32.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def _accelerator() -> torch.device | None:
    import torch

    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def _usable(wanted: str) -> torch.device:
    import torch

    device = torch.device(wanted)
    # Checked first, since it allocates nothing: the GPU may be reserved for another process.
    if (found := _accelerator()) and found.type == wanted:
        return device
    try:
        torch.empty(1, device=device)
    except (AssertionError, RuntimeError) as error:  # AssertionError if torch is built without support for it
        reason = (str(error).splitlines() or [type(error).__name__])[0].strip().rstrip(".")
        raise ConfigError(
            f"{VARIABLE}={wanted}", f"torch {torch.__version__} cannot use it here ({reason})",
            remedy="`styleforge doctor` shows what is missing; unset the variable to use the CPU",
        ) from error  # fmt: skip
    return device


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi reports it: ``name``, which includes its memory, and the version of its ``driver``."""

    name: str
    driver: str


def nvidia_gpus() -> list[Gpu]:
    """The GPUs that this machine's driver reports; none without a driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.partition(",") for line in answer.stdout.splitlines() if line.strip()]
    return [Gpu(name.strip(), driver.strip()) for driver, _, name in rows]


def cuda_of_torch() -> str | None:
    """The CUDA release that torch is built for, such as 13.0; None without torch or for a build without CUDA."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    # torch/version.py imports nothing heavy; torch itself takes seconds.
    return runpy.run_path(str(Path(spec.origin).with_name("version.py"))).get("cuda")


def driver_too_old(gpu: Gpu, cuda: str) -> int | None:
    """The oldest driver that this CUDA release supports, if the GPU's driver is older; else None."""
    oldest = OLDEST_DRIVER.get(int(cuda.partition(".")[0]))
    major = gpu.driver.partition(".")[0]
    return oldest if oldest and major.isdigit() and int(major) < oldest else None
