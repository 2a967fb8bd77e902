"""Names of GPUs, and how much memory they have."""

import os
import re
from dataclasses import dataclass

from components.core.devices import nvidia_gpus, wanted_device
from components.core.errors import InputError

VARIABLE = "STYLEFORGE_GPU"
GIB = 2**30
# GiB by the part of a name that remains without its maker and series.
KNOWN = {
    "h200": 141, "b200": 180, "h100nvl": 94, "h100": 80, "gh200": 96, "a100": 40, "l40s": 48, "l40": 48, "l4": 24, "a40": 48, "a30": 24,
    "a16": 16, "a10g": 24, "a10": 24, "a2": 16, "t4": 16, "p100": 16, "p40": 24, "p4": 8, "v100": 16,
    "pro6000": 96, "6000ada": 48, "5000ada": 32, "4500ada": 24, "4000ada": 20, "2000ada": 16,
    "a6000": 48, "a5500": 24, "a5000": 24, "a4500": 20, "a4000": 16, "a2000": 12,
    "5090": 32, "5080": 16, "5070ti": 16, "5070": 12, "5060": 8,
    "4090": 24, "4080super": 16, "4080": 16, "4070tisuper": 16, "4070ti": 12, "4070super": 12, "4070": 12, "4060ti": 8, "4060": 8,
    "3090ti": 24, "3090": 24, "3080ti": 12, "3080": 10, "3070ti": 8, "3070": 8, "3060ti": 8, "3060": 12, "3050": 8,
    "2080ti": 11, "2080super": 8, "2080": 8, "2070super": 8, "2070": 8, "2060": 6, "1080ti": 11, "1080": 8, "1070": 8,
}  # fmt: skip
_WORDS = re.compile(r"nvidia|geforce|quadro|tesla|titan|rtx|gtx|sxm\d*|pcie|laptop|gpu|generation|blackwell|server|workstation|edition")
_SIZE = re.compile(r"(?<![a-z0-9])(\d+(?:\.\d+)?)\s*(gib|gb|g|mib|mb)(?![a-z])")


@dataclass(frozen=True)
class GpuMemory:
    """A GPU's name, as the user or the driver gave it, and its memory in bytes."""

    name: str
    size: int

    @property
    def usable(self) -> int:
        """Bytes left for tensors, after CUDA's own context and an allowance for libraries' workspaces and fragmentation."""
        return int(self.size * 0.95 - 0.6 * GIB)


def gpu_memory(text: str, where: str = "--gpu") -> GpuMemory:
    """The GPU that a text names, by its memory (``24GB``, binary, as cards are sold) or by its name (``RTX 4090``, ``nvidia-l4``).

    A size within a name, as in ``A100-SXM4-80GB``, is its memory. InputError if no GPU of that name is known.
    """
    lower = text.strip().lower()
    if found := _SIZE.search(lower):
        amount = float(found[1]) * (GIB if found[2].startswith("g") else 2**20)
        if amount > 0:
            return GpuMemory(text.strip(), int(amount))
    bare = re.sub(r"[^a-z0-9]", "", _WORDS.sub("", lower))
    if bare in KNOWN:
        return GpuMemory(text.strip(), KNOWN[bare] * GIB)
    raise InputError(
        f"{where} {text.strip()}", "not a known GPU",
        expected="its memory, such as 24GB, or a name such as RTX 4090, L4 or A100-80GB",
    )  # fmt: skip


def named_gpu() -> GpuMemory | None:
    """The GPU that runs will have according to STYLEFORGE_GPU; None if it is unset, InputError if it names no known GPU."""
    named = os.environ.get(VARIABLE, "").strip()
    return gpu_memory(named, VARIABLE) if named else None


def usual_gpu() -> GpuMemory | None:
    """The GPU that STYLEFORGE_GPU names, else this machine's with the least memory; None if there is neither."""
    if named := named_gpu():
        return named
    if wanted_device() not in ("", "cuda"):
        return None
    # The driver reports the memory along with the name.
    return min((gpu_memory(gpu.name) for gpu in nvidia_gpus()), key=lambda gpu: gpu.size, default=None)


def gigabytes(size: float) -> str:
    """A size in bytes as text: in binary gigabytes, as cards are sold (``9.4 GB``); below one, in megabytes."""
    return f"{size / GIB:.1f} GB" if size >= GIB else f"{size / 2**20:.0f} MB"
