"""Step: everything about the run on one page."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from steps.artifacts import Folder
from steps.caching import cache_policy
from steps.workspace import scratch


@step(cache_policy=cache_policy(__file__))
def report(
    style_set: Folder, validation: Folder, split: Folder, aux: Folder, model: Folder, pictures: Folder, base_pictures: Folder,
    scores: Folder, config: dict[str, Any], base_digest: str,
) -> Annotated[Folder, "report"]:  # fmt: skip
    """Render the report.

    Args:
        style_set: of ``scan``.
        validation: of ``validate``.
        split: of ``split``.
        aux: of ``build_aux``.
        model: of ``fine_tune``; its training log is shown.
        pictures: of ``sample_bank``.
        base_pictures: of ``sample_base``.
        scores: of ``score``.
        config: the resolved configuration, without the registry section.
        base_digest: of the base's files.
    """
    from components.evaluation.report import render_report

    out = scratch("report")
    render_report(
        out / "report.html", style_set=style_set.path, validation=validation.path, split=split.path, aux=aux.path, model=model.path,
        pictures=pictures.path, base_pictures=base_pictures.path, scores=scores.path, config=config, base_digest=base_digest,
    )  # fmt: skip
    return Folder(out)
