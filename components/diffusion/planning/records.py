"""A memory plan as plain data, and where plans are kept: making one takes seconds, reading it does not."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from components.core.content import digest_value
from components.core.fingerprint import fingerprint
from components.core.paths import read_json, state, write_json
from components.diffusion.planning.settings import MemorySettings

LIBRARIES = ("torch", "diffusers", "transformers", "peft")
"""What decides about shapes besides our own code."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one step holds when it holds most. ``activations`` are all that is not one of the others."""

    name: str
    weights: int
    gradients: int = 0
    optimizer: int = 0
    average: int = 0
    activations: int = 0
    caches: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, item.name) for item in fields(self) if item.name != "name")


@dataclass(frozen=True)
class PartCount:
    """A part of the base: its parameters, adapters and new tokens included, how many train, and the bytes that they take on the GPU."""

    parameters: int
    trained: int
    weights: int


@dataclass(frozen=True)
class MemoryPlan:
    """What a run takes, step by step. ``base`` is the family's title, ``resolution`` the side of its pictures in pixels."""

    base: str
    resolution: int
    parts: Mapping[str, PartCount]
    steps: tuple[StepMemory, ...]

    @property
    def peak(self) -> StepMemory:
        """The step that takes most."""
        return max(self.steps, key=lambda step: step.total)

    def as_json(self) -> dict[str, Any]:
        """Counts, and bytes."""
        return {
            "base": self.base, "resolution": self.resolution, "parts": {name: asdict(part) for name, part in self.parts.items()},
            "steps": [{**asdict(step), "total": step.total} for step in self.steps],
            "peak": {"step": self.peak.name, "bytes": self.peak.total},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MemoryPlan:
        """The inverse of :meth:`as_json`."""
        steps = ({key: value for key, value in step.items() if key != "total"} for step in data["steps"])
        parts = {name: PartCount(**part) for name, part in data["parts"].items()}
        return cls(data["base"], data["resolution"], parts, tuple(StepMemory(**step) for step in steps))


class KeptPlans:
    """Plans of one base and extractor, see :class:`components.diffusion.planning.memory.Planner`, each made once and kept on disk."""

    def __init__(self, base: Path, extractor: Path | None) -> None:
        self._base, self._extractor = base, extractor
        texts = [path for folder in (base, extractor) if folder for path in sorted(folder.rglob("*.json")) if path.name in _READ]
        code = fingerprint(Path(__file__).resolve().parents[1])
        versions = [importlib.metadata.version(name) for name in LIBRARIES]
        self._about = [code, versions, [[path.parent.name, read_json(path)] for path in texts]]
        self._planner: Callable[[MemorySettings], MemoryPlan] | None = None

    def __call__(self, settings: MemorySettings) -> MemoryPlan:
        """The plan for these settings; raises what making it raises."""
        file = state("cache", "plans") / f"{digest_value([self._about, settings.as_json()])[:32]}.json"
        if file.is_file():
            return MemoryPlan.from_json(read_json(file))
        plan = self._make(settings)
        write_json(file, plan.as_json())
        return plan

    def _make(self, settings: MemorySettings) -> MemoryPlan:
        if self._planner is None:
            # Heavy: it imports torch and the networks' libraries.
            from components.diffusion.planning.memory import Planner

            self._planner = Planner(self._base, self._extractor).plan
        return self._planner(settings)


_READ = ("config.json", "model_index.json", "scheduler_config.json", "tokenizer_config.json")
