"""How a figure comes about: rounds of two ways in turn, the median of each, and the memory that each needed.

Each way has a process of its own, so that neither profits from what the other has loaded, and its peak memory is its own.
The rounds alternate, so that a machine that slows down slows both.
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
"""One way of doing the work: loads what it needs once. A module-level function, since it is sent to another process."""


@dataclass(frozen=True)
class Round:
    """One timed round: seconds, units handled, and the greatest resident memory in bytes while it ran."""

    seconds: float
    units: int
    peak_memory: int

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Figure:
    """All rounds of one way: the median rate with the slowest and the fastest, and the greatest memory in bytes."""

    rate: float
    slowest: float
    fastest: float
    peak_memory: int
    rounds: int

    @classmethod
    def of(cls, rounds: list[Round]) -> Figure:
        """Sum rounds up."""
        rates = [item.rate for item in rounds]
        return cls(statistics.median(rates), min(rates), max(rates), max(item.peak_memory for item in rounds), len(rounds))


@dataclass(frozen=True)
class Comparison:
    """StyleForge's way beside the baseline, in ``unit``; ``note`` says what that is."""

    part: str
    unit: str
    ours: Figure
    plain: Figure
    aim: float | None
    note: str

    @property
    def ratio(self) -> float:
        """How many times as fast as the baseline."""
        return self.ours.rate / self.plain.rate


class PeakMemory:
    """The greatest resident memory of a process, in bytes, by looking every few milliseconds.

    Args:
        pid: the process; default: this one.
        children: count its children too.
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
            pass  # It ended between two looks.
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
        world: what both work on.
        rounds: rounds of each.
        in_process: stay in this process. Faster to start, but then memory says nothing about the single way.
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
    """In the other process: load what the way needs."""
    _loaded["prepare"] = way(world)


def _round(number: int) -> Round:
    """In the other process: one round."""
    return timed(_loaded["prepare"](number))
