"""Runs the pipeline of a planned comparison and returns the outcome as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.paths import read_json
from components.registry.tracking import is_new, tracking_uri
from orchestration.client import LOCAL, output_folder, stack_flavors
from orchestration.outcome import Outcome
from orchestration.submit import submit_and_collect
from steps.io.uploads import within_reach

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse


@dataclass
class CompareResult(Outcome):
    """The outcome of a comparison."""

    folder: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    tracking: dict[str, Any] | None = None
    steps: int = 0
    cached: int = 0

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The cells without a result."""
        return [cell for cell in self.result.get("cells", []) if cell["status"] == "failed"]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON with the claims and the failed cells; the tables are in the files."""
        data, shown = super().as_dict(), ("id", "variants", "style", "seed", "error")
        result = data.pop("result")
        data["cells"] = {"total": len(result.get("cells", [])), "failed": [{key: cell[key] for key in shown} for cell in self.failed]}
        told = ("name", "metric", "verdict", "seeds", "seeds_needed")
        return data | {"claims": [{key: claim[key] for key in told} for claim in result.get("claims", [])]}


def on_this_machine() -> bool:
    """Whether the active stack runs every step in this process."""
    return LOCAL in stack_flavors()


def run_plan(
    plan: Mapping[str, Any], name: str, settings: Path | None, *, use_cache: bool, concurrent: bool | None = None
) -> CompareResult:
    """Run the pipeline of a plan; ``concurrent`` defaults to True if the active stack does not run steps in this process."""
    from orchestration.preflight import check_access
    from pipelines.compare import compare
    from steps.io import workspace

    workspace.sweep()
    if not on_this_machine():
        check_access()
        plan = _within_reach(plan)
    concurrent = not on_this_machine() if concurrent is None else concurrent
    uri = tracking_uri(plan["track"]["tracking_uri"]) if "track" in plan else None
    run, error = submit_and_collect(
        compare, f"compare-{name}", settings=settings, use_cache=use_cache, plan=plan, concurrent=concurrent,
        empty_registry=uri is not None and is_new(uri),
    )  # fmt: skip
    result = CompareResult("completed" if error is None else getattr(error, "status", "failed"), error=error)
    if run is not None:
        _gather(run, plan, result)
    return result


def _within_reach(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Put each cell's local picture folders where pods can read them, and return the plan with the new places."""
    scans = {cell["plan"]["scan"] for cell in plan["cells"]}
    return {**plan, "sections": {**plan["sections"], **{key: within_reach({"scan": plan["sections"][key]})["scan"] for key in scans}}}


def _gather(run: PipelineRunResponse, plan: Mapping[str, Any], result: CompareResult) -> None:
    result.run_id = str(run.id)
    result.steps = len(run.steps)
    result.cached = sum(step.status.value == "cached" for step in run.steps.values())
    if result.error is not None or "compare" not in plan:
        return
    result.folder = str(output_folder(run, "compare"))
    result.result = read_json(Path(result.folder) / "comparison.json")
    result.tracking = read_json(output_folder(run, "track") / "tracking.json")
    done = len(result.result["cells"]) - len(result.failed)
    result.status = "completed" if not result.failed else "incomplete" if done else "failed"
