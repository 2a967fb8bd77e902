"""Step: write the report, one HTML file that needs no network."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from components.core.config import RunConfig
from components.core.paths import read_json
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def report(
    style_set: Folder, validation: Folder, split: Folder, aux: Folder, model: Folder, pictures: Folder, base_pictures: Folder,
    scores: Folder, attention: Folder, config: dict[str, Any],
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
        attention: of ``explain``.
        config: the resolved configuration, without the registry section.
    """
    from components.evaluation.report import render_report

    out = scratch("report")
    out.mkdir(parents=True)
    division = read_json(split.path / "split.json")
    render_report(
        out / "report.html", config=RunConfig.model_validate(config), scores=read_json(scores.path / "scores.json"),
        style_pictures=pictures.path / "style", base_pictures=base_pictures.path, style_set=style_set.path, split=split.path,
        aux=aux.path, validation=validation.path, model=model.path, attention=attention.path,
        reference=[style_set.path / "images" / path for path in division["reference"]],
    )  # fmt: skip
    return Folder(out)
