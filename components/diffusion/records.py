"""What rooms of ``diffusion`` tell one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """What a training took: wall time, the pictures of all processes, and the step it was taken up from.

    ``gpu`` is the name of the GPUs of several processes and the most memory in bytes that one of them had allocated, which
    nobody outside of them can see.
    """

    seconds: float
    images: int
    resumed_from: int
    gpu: tuple[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """As ``training/timing.json`` holds it."""
        rate = self.images / self.seconds if self.seconds else 0.0
        gpu = {"device": self.gpu[0], "peak_memory_bytes": self.gpu[1]} if self.gpu else {}
        rates = {"seconds": round(self.seconds, 3), "images_per_second": round(rate, 2)}
        return {**rates, "images": self.images, "resumed_from": self.resumed_from, **gpu}
