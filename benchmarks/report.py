"""Reports the figures as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.cached_run import CachedRun
from benchmarks.measure import Comparison, Figure

MEGABYTE = 1e6


def machine() -> dict[str, Any]:
    """Describe the machine and library versions that the figures depend on."""
    import torch

    from components.core.devices import default_device

    device = default_device()
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_mb": round(psutil.virtual_memory().total / MEGABYTE),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "accelerate", "numpy")},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Results:
    """All results of one benchmark run; ``about`` comes from :func:`machine`, ``settings`` says what was measured."""

    about: dict[str, Any]
    settings: dict[str, Any]
    comparisons: list[Comparison]
    cached: CachedRun | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all raw figures as plain JSON."""
        parts: dict[str, Any] = {}
        for item in self.comparisons:
            parts[item.part] = {**asdict(item), "ratio": item.ratio}
        if self.cached is not None:
            parts["cached-run"] = {"part": "cached-run", "unit": "s", **asdict(self.cached), "ratio": self.cached.ratio}
        return {"machine": self.about, "settings": self.settings, "parts": parts}


def print_results(results: Results) -> None:
    """Print the table, then what each baseline does."""
    console, about = Console(highlight=False), results.about
    if not console.is_terminal:
        console.width = 200  # Without a terminal, rich would wrap at 80 columns.
    console.print(f"{about['device']}, {about['processor']}, {about['cores']} core(s), {about['threads']} thread(s)")
    console.print("median of rounds (slowest to fastest)")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "StyleForge", "baseline", "ratio", "aim", "memory", "memory, baseline"):
        table.add_column(column, justify="left" if not column else "right")
    for item in results.comparisons:
        aim = f"≥ {item.aim:g}" if item.aim else ""
        memory = (_memory(item.ours.peak_memory), _memory(item.plain.peak_memory))
        table.add_row(f"{item.part}, {item.unit}", _rate(item.ours), _rate(item.plain), f"{item.ratio:.2f}", aim, *memory)
    if results.cached is not None:
        table.add_row(*_cached_row(results.cached))
    console.print(table)
    for item in results.comparisons:
        console.print(f"plain {item.part}: {item.note}.")
    if results.cached is not None:
        console.print("plain cached run: the first run, which fills the cache.")
        if results.cached.missed:
            console.print(f"not from the cache: {', '.join(results.cached.missed)}")


def _cached_row(cached: CachedRun) -> tuple[str, ...]:
    again = sorted(cached.again)
    spread = f"{again[len(again) // 2]:.1f} ({again[-1]:.1f} to {again[0]:.1f})"
    memory = (_memory(cached.again_memory), _memory(cached.first_memory))
    return ("cached run, s", spread, f"{cached.first:.1f}", f"{cached.ratio:.2f}", "", *memory)


def _rate(figure: Figure) -> str:
    return f"{figure.rate:.1f} ({figure.slowest:.1f} to {figure.fastest:.1f})"


def _memory(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"
