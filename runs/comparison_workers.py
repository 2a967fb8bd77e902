"""Runs several cells at a time on one machine, in separate processes because training keeps state that threads would share."""

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.logs import is_verbose, set_up
from components.core.model_ref import EMBEDDED_BASES
from components.core.paths import embedded_weights, python_module, read_json, state, write_json
from runs.comparison_plan import CompareOptions

_logger = logging.getLogger(__name__)
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_THREADS = "OMP_NUM_THREADS"
_PROCESS_BYTES = 2 * 2**30
"""Memory of a process without its networks; 1.3 GB were measured with the pocket base, whose weights take 25 MB in fp16."""
_BYTES_A_BYTE = 10
"""Bytes of memory for each byte of fp16 weights: fp32 weights, gradients and AdamW's two moments already take eight."""


def devices() -> int:
    """Number of CUDA devices that this process may use."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return 0  # Importing torch just to find this out would take seconds.
    import torch

    return int(torch.cuda.device_count())


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_that_fit(bases: Collection[str]) -> int:
    """Return how many cells to train at once without a CUDA device: one for each core, if there is enough memory.

    Networks that are small enough to train on a CPU gain next to nothing from a second thread. A base on the hub is assumed to be
    too large, so its cells run one at a time.
    """
    import psutil

    needed = _PROCESS_BYTES + _BYTES_A_BYTE * max(_size(base) for base in bases)
    return max(1, min(cores(), int(psutil.virtual_memory().available // needed)))


def _size(base: str) -> int:
    """Return the size in bytes of a base's weights on this machine; ``sys.maxsize`` if they are elsewhere."""
    place = embedded_weights(EMBEDDED_BASES[base]) if base in EMBEDDED_BASES else Path(base).expanduser()
    files = [place] if place.is_file() else list(place.rglob("*.safetensors")) if place.is_dir() else None
    return sys.maxsize if files is None else sum(file.stat().st_size for file in files)


def shard(cells: Sequence[Mapping[str, Any]], index: int, count: int) -> list[Mapping[str, Any]]:
    """Return the cells of one of ``count`` workers; if possible, all cells of a style and seed go together, since they share their Aux."""
    groups = list(dict.fromkeys((cell["style"], cell["seed"]) for cell in cells))
    if len(groups) < count:
        return list(cells[index::count])
    mine = set(groups[index::count])
    return [cell for cell in cells if (cell["style"], cell["seed"]) in mine]


def run_workers(plan: Mapping[str, Any], count: int, *, name: str, settings: Path | None, options: CompareOptions) -> dict[str, str]:
    """Run all cells in ``count`` processes; return the errors of failed cells. The caller retries the cells of a process that died."""
    with tempfile.TemporaryDirectory(dir=state("tmp")) as folder, contextlib.ExitStack() as stack:
        jobs = [Path(folder) / f"{index}.json" for index in range(count)]
        processes = []
        for index, job in enumerate(jobs):
            cells = shard(plan["cells"], index, count)
            write_json(job, {
                "plan": {"cells": cells, "sections": plan["sections"], "errors": str(_errors(job))}, "name": f"{name}-{index}",
                "settings": settings and str(settings), "use_cache": options.use_cache, "verbose": is_verbose(),
            })  # fmt: skip
            command = python_module("runs.comparison_workers", str(job))
            process = subprocess.Popen(command, env=_environment(index, count), stdout=subprocess.DEVNULL)
            stack.callback(_end, process)
            processes.append(process)
        for index, process in enumerate(processes):
            if process.wait() != 0:
                _logger.warning("process %d of %d ended with code %d; its cells will be retried", index + 1, count, process.returncode)
        errors: dict[str, str] = {}
        for job in jobs:
            if _errors(job).is_file():
                errors |= read_json(_errors(job))
        return errors


def _errors(job: Path) -> Path:
    """Return the file into which a process writes the errors of its cells."""
    return job.with_suffix(".errors.json")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process that is still running and wait, so that it can keep its resumable work."""
    if process.poll() is None:
        process.terminate()
        process.wait()


def _environment(index: int, count: int) -> dict[str, str]:
    """Return this process's environment, limited to one device or to a share of the cores."""
    if not devices():
        # Otherwise every process would use all cores, and they would slow each other down.
        threads = str(max(1, cores() // count))
        return {_THREADS: threads, **os.environ}
    visible = os.environ.get(_VISIBLE)
    names = visible.split(",") if visible else [str(number) for number in range(devices())]
    return {**os.environ, _VISIBLE: names[index % len(names)]}


def work(job: Path) -> None:
    """Run the cells of one process and write the errors of failed cells beside the job file."""
    from orchestration.client import connect, terminate_as_interrupt
    from orchestration.environment import prepare_environment
    from runs.comparison_run import run_plan

    data = read_json(job)
    set_up(verbose=data["verbose"])
    prepare_environment()
    with terminate_as_interrupt():
        connect()
        settings = Path(data["settings"]) if data["settings"] else None
        result = run_plan(data["plan"], data["name"], settings, use_cache=data["use_cache"])
    if result.error is not None:
        raise result.error


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
