"""Step: record the scores, costs and images of one cell of a comparison."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from components.core.config import ScoringSection
from components.core.paths import read_json
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def measure(
    style_set: Folder, split: Folder, model: Folder, pictures: Folder, base_pictures: Folder, scores: Folder, tokens: list[str],
    scoring: dict[str, Any],
) -> Annotated[Folder, "record"]:  # fmt: skip
    """Write the record of one cell.

    Args:
        style_set: of ``scan``.
        split: of ``split``; names the reference.
        model: of ``fine_tune``.
        pictures: of ``sample_bank``.
        base_pictures: of ``sample_base``.
        scores: of ``score``.
        tokens: the tokens bound to the style.
        scoring: the scoring section.
    """
    from components.evaluation.record import write_record

    division = read_json(split.path / "split.json")
    out = scratch("measure")
    write_record(
        out, scores=read_json(scores.path / "scores.json"), model=model.path, style_pictures=pictures.path / "style",
        base_pictures=base_pictures.path, reference=[style_set.path / "images" / path for path in division["reference"]],
        settings=ScoringSection(**scoring), identifier=tokens,
    )  # fmt: skip
    return Folder(out)
