"""A memory plan as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one step holds at its peak. ``activations`` are all that no other field covers, a rough estimate if ``estimated``."""

    name: str
    weights: int
    gradients: int = 0
    optimizer: int = 0
    average: int = 0
    activations: int = 0
    caches: int = 0
    estimated: bool = False

    @property
    def amounts(self) -> dict[str, int]:
        """The bytes by what holds them."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("name", "estimated")}

    @property
    def total(self) -> int:
        """The sum of all amounts."""
        return sum(self.amounts.values())


@dataclass(frozen=True)
class PartCount:
    """A part of the base: its parameters, including adapters and new tokens, how many of them train, and the part's bytes on the GPU."""

    parameters: int
    trained: int
    weights: int


@dataclass(frozen=True)
class MemoryPlan:
    """The memory that a run takes, step by step. ``base`` is the family's title, ``resolution`` the side of training pictures in pixels."""

    base: str
    resolution: int
    parts: Mapping[str, PartCount]
    steps: tuple[StepMemory, ...]

    @property
    def peak(self) -> StepMemory:
        """The step that takes the most memory."""
        return max(self.steps, key=lambda step: step.total)

    def as_json(self) -> dict[str, Any]:
        """The plan as a JSON value, in numbers of parameters and bytes."""
        return {
            "base": self.base, "resolution": self.resolution, "parts": {name: asdict(part) for name, part in self.parts.items()},
            "steps": [{**asdict(step), "total": step.total} for step in self.steps],
            "peak": {"step": self.peak.name, "bytes": self.peak.total},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`as_json`."""
        steps = ({key: value for key, value in step.items() if key != "total"} for step in data["steps"])
        parts = {name: PartCount(**part) for name, part in data["parts"].items()}
        return cls(data["base"], data["resolution"], parts, tuple(StepMemory(**step) for step in steps))
