"""Measures two ways of doing the same work: alternating rounds, the median of each way, and the memory that it needs.

Each way runs in its own process, so that neither profits from what the other has loaded and peak memory is measured separately.
The rounds alternate, so that a machine that slows down slows both ways.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from types import TracebackType
from typing import Any

import psutil

from benchmarks.world import World

Work = Callable[[], int]
"""The timed part of a round; returns how many units (pictures) it handled."""
Prepare = Callable[[int], Work]
"""The untimed part of a round, given the round's number."""
Way = Callable[[World], Prepare]
"""One way of doing the work; loads what it needs once. Must be a module-level function, since it is sent to another process."""


@dataclass(frozen=True)
class Round:
    """One timed round: seconds, units handled, and peak resident memory in bytes."""

    seconds: float
    units: int
    peak_memory: int

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Figure:
    """Summary of all rounds of one way: the median, slowest and fastest rate, and the peak memory in bytes."""

    rate: float
    slowest: float
    fastest: float
    peak_memory: int
    rounds: int

    @classmethod
    def of(cls, rounds: list[Round]) -> Figure:
        """Summarize rounds."""
        rates = [item.rate for item in rounds]
        return cls(statistics.median(rates), min(rates), max(rates), max(item.peak_memory for item in rounds), len(rounds))


@dataclass(frozen=True)
class Comparison:
    """StyleForge's way and the baseline, in ``unit``; ``note`` describes the baseline."""

    part: str
    unit: str
    ours: Figure
    plain: Figure
    aim: float | None
    note: str

    @property
    def ratio(self) -> float:
        """How many times as fast as the baseline StyleForge is."""
        return self.ours.rate / self.plain.rate


class PeakMemory:
    """Measures the peak resident memory of a process, in bytes, by sampling it repeatedly.

    Args:
        pid: the process; default: this one.
        children: include its child processes.
        interval: seconds between samples.
    """

    def __init__(self, pid: int | None = None, *, children: bool = False, interval: float = 0.01) -> None:
        self._process, self._children, self._interval = psutil.Process(pid), children, interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()

    def _look(self) -> None:
        total = 0
        try:
            for process in [self._process, *(self._process.children(recursive=True) if self._children else [])]:
                total += process.memory_info().rss
        except psutil.Error:
            pass  # The process ended between two samples.
        self.bytes = max(self.bytes, total)


def timed(work: Work) -> Round:
    """Run the timed part of a round."""
    with PeakMemory() as memory:
        start = time.perf_counter()
        units = work()
        seconds = time.perf_counter() - start
    return Round(seconds, units, memory.bytes)


def alternate(ours: Way, plain: Way, world: World, rounds: int, *, in_process: bool = False) -> tuple[Figure, Figure]:
    """Time two ways in turn.

    Args:
        ours: StyleForge's way.
        plain: the baseline.
        world: the data that both work on.
        rounds: rounds of each way.
        in_process: run both in this process, which starts faster but cannot measure the memory of each way separately.
    """
    with ExitStack() as stack:
        calls = [_caller(way, world, stack, in_process) for way in (ours, plain)]
        found: list[list[Round]] = [[], []]
        for number in range(rounds):
            for call, results in zip(calls, found, strict=True):
                results.append(call(number))
    return Figure.of(found[0]), Figure.of(found[1])


def _caller(way: Way, world: World, stack: ExitStack, in_process: bool) -> Callable[[int], Round]:
    if in_process:
        prepare = way(world)
        return lambda number: timed(prepare(number))
    pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
    pool.submit(_load, way, world).result()
    return lambda number: pool.submit(_round, number).result()


_loaded: dict[str, Any] = {}


def _load(way: Way, world: World) -> None:
    """Load what the way needs; called in the worker process."""
    _loaded["prepare"] = way(world)


def _round(number: int) -> Round:
    """Run one round; called in the worker process."""
    return timed(_loaded["prepare"](number))
