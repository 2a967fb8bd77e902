"""Step: record the scores, costs and images of one cell of a comparison."""

from typing import Annotated

from zenml import step

from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def measure(model: Folder, pictures: Folder, base_pictures: Folder, scores: Folder) -> Annotated[Folder, "record"]:
    """Write the record of one cell."""
    from components.evaluation.record import write_record

    out = scratch("measure")
    write_record(out, evaluation=scores.path, model=model.path, style_pictures=pictures.path / "style", base_pictures=base_pictures.path)
    return Folder(out)
