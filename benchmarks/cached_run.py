"""Measures a run whose steps all come from the cache, in a fresh process, against the run that filled the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import PeakMemory
from benchmarks.world import STYLE, Sizes
from components.core.config import RunConfig
from components.core.errors import StyleForgeError
from components.core.paths import REPOSITORY

COMMAND = (sys.executable, "-m", "cli.app")


@dataclass(frozen=True)
class CachedRun:
    """Wall time (seconds) and peak memory (bytes) of the first run and of the repetitions; ``missed`` names steps that ran again."""

    first: float
    first_memory: int
    again: list[float]
    again_memory: int
    steps: list[str]
    missed: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as long as a repetition (median) the first run took."""
        return self.first / sorted(self.again)[len(self.again) // 2]


def measure_cached_run(config: RunConfig, folder: Path, sizes: Sizes, rounds: int, command: Sequence[str] = COMMAND) -> CachedRun:
    """Run ``styleforge run`` once in an empty home, then ``rounds`` times more.

    Args:
        config: the run; rendered pictures replace its style, and the home's own registry replaces its registry.
        folder: an empty folder for the home, the pictures and the configuration.
        sizes: how many reference pictures to render; everything else comes from the configuration.
        rounds: repetitions.
        command: the command to start, to which ``run CONFIG --json`` is appended.

    Raises:
        StyleForgeError: a run fails; the error contains the end of its error output.
    """
    file = write_config(config, folder, sizes)
    first, first_memory, result = _run(command, file, folder / "home")
    again = [_run(command, file, folder / "home") for _ in range(rounds)]
    steps = sorted(result["seconds"])
    missed = sorted({step for _, _, later in again for step in later["seconds"] if step not in later["cached"]})
    return CachedRun(first, first_memory, [seconds for seconds, _, _ in again], max(memory for _, memory, _ in again), steps, missed)


def write_config(config: RunConfig, folder: Path, sizes: Sizes) -> Path:
    """Write the run's configuration file and render the pictures that it names; return the file."""
    from components.pocket.render import render_dataset

    source = render_dataset(STYLE, folder / "source", reference=sizes.reference)
    data = config.model_dump(mode="json")
    data["style"] |= {"name": "benchmark", "source": str(source), "reference": None}
    data["aux"]["pool"] = None
    data["registry"] = {}
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


def _run(command: Sequence[str], config: Path, home: Path) -> tuple[float, int, dict[str, Any]]:
    """Run once in a separate process; return the seconds, the peak memory in bytes, and the JSON output."""
    # A benchmark must run and register its model in its own home, never on a server.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ZENML_", "MLFLOW_"))}
    environment = {**inherited, "STYLEFORGE_HOME": str(home)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "run", str(config), "--json"], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with PeakMemory(process.pid, children=True, interval=0.05) as memory:
        output, errors = process.communicate()
    seconds = time.perf_counter() - start
    lines = output.strip().splitlines()
    if process.returncode != 0 or not lines:
        problem = f"exit code {process.returncode}: {errors.strip()[-2000:]}"
        raise StyleForgeError("benchmark cached-run", problem, expected="a run that succeeds", remedy="try it by itself first")
    return seconds, memory.bytes, json.loads(lines[-1])
