"""Step: turn the records of all cells into tables, claims and an image wall."""

from typing import Annotated, Any

from zenml import step

from components.core.comparison import CompareConfig
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def compare(
    records: list[Folder], cells: list[dict[str, Any]], comparison: dict[str, Any], settings: dict[str, Any]
) -> Annotated[Folder, "comparison"]:
    """Compare the cells. Each that has no ``error`` has one of the ``records``, in the same order; ``settings`` are for the page."""
    from components.evaluation.comparison import Outcome
    from components.evaluation.comparison_page import render_comparison
    from components.evaluation.record import read_record

    waiting = iter(records)
    outcomes = [
        Outcome(
            cell["id"], tuple(cell["variants"]), cell["style"], cell["seed"], cell["steps"],
            read_record(next(waiting).path) if cell["error"] is None else None, cell["error"],
        )
        for cell in cells
    ]  # fmt: skip
    out = scratch("compare")
    render_comparison(out, CompareConfig.model_validate(comparison), outcomes, settings)
    return Folder(out)
