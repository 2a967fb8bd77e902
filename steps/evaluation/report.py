"""Step: write the report, one HTML file that needs no network."""

from typing import Annotated, Any

from zenml import step

from components.core.config import RunConfig
from components.core.paths import read_json
from steps.evaluation.reference import reference_of
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def report(
    style_set: Folder, validation: Folder, split: Folder, aux: Folder, model: Folder, pictures: Folder, base_pictures: Folder,
    scores: Folder, attention: Folder, config: dict[str, Any],
) -> Annotated[Folder, "report"]:  # fmt: skip
    """Render the report; ``config`` is the resolved configuration without the registry section."""
    from components.evaluation.report import ReportInputs, render_report

    out = scratch("report")
    out.mkdir(parents=True)
    inputs = ReportInputs(
        style_set.path, split.path, aux.path, validation.path, model.path, pictures.path / "style", base_pictures.path, attention.path,
        reference_of(style_set, split),
    )  # fmt: skip
    render_report(out / "report.html", RunConfig.model_validate(config), read_json(scores.path / "scores.json"), inputs)
    return Folder(out)
