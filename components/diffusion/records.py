"""What rooms of ``diffusion`` tell one another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What a training took.

    ``seconds`` are wall time; ``images`` the pictures of all processes; ``resumed_from`` the step it was taken up from;
    ``gpu`` the name of the GPUs of several processes and the most memory in bytes that one of them had allocated, which
    nobody outside of them can see.
    """

    seconds: float
    images: int
    resumed_from: int
    gpu: tuple[str, int] | None = None
