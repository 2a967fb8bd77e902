"""What a command came to, as plain data: results, and errors with the exit code that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from components.core.errors import error_json


@dataclass
class RunResult:
    """What a run came to; :meth:`as_dict` is what ``--json`` prints."""

    status: str = "failed"
    run_id: str | None = None
    report: str | None = None
    model: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    base_scores: dict[str, Any] | None = None
    drift: dict[str, Any] | None = None
    context: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    total_seconds: float = 0.0
    error: Exception | None = None

    @property
    def exit_code(self) -> int:
        """0 done, 2 bad input, 3 refused, 4 service not reachable, 1 anything else."""
        return 0 if self.error is None else getattr(self.error, "exit_code", 1)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON; the error as its message and parts."""
        data = {key: value for key, value in vars(self).items() if key not in ("error", "context")}
        if "confidence" in self.context:
            data["confidence"] = self.context["confidence"]
        if self.error is not None:
            data["error"] = error_json(self.error)
        return data
