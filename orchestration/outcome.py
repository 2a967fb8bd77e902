"""The outcome of a command as plain data: results, and errors with their exit codes."""

from dataclasses import dataclass, field
from typing import Any

from components.core.errors import error_json


@dataclass
class Outcome:
    """The outcome of a pipeline run; :meth:`as_dict` is what ``--json`` prints."""

    status: str = "failed"
    run_id: str | None = None
    error: Exception | None = None
    total_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; the error becomes its message and parts."""
        return vars(self) | {"error": error_json(self.error)} if self.error else {k: v for k, v in vars(self).items() if k != "error"}


@dataclass
class RunResult(Outcome):
    """The outcome of ``personalize``. ``examination`` has the ``headline`` on the style set, and what limits the result (``limit``)."""

    report: str | None = None
    model: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    base_scores: dict[str, Any] | None = None
    drift: dict[str, Any] | None = None
    examination: dict[str, str] | None = None
    context: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON; of ``context``, only the confidence level of the intervals is kept."""
        data = super().as_dict()
        context = data.pop("context")
        return data | {key: context[key] for key in ("confidence",) if key in context}
