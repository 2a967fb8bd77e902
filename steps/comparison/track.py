"""Step: log a comparison to MLflow, with one child run per cell."""

from typing import Annotated, Any

from zenml import step

from components.core.paths import write_json
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def track(
    comparison: Folder, experiment: str, tracking_uri: str | None, tracking: str, settings: dict[str, Any], changes: dict[str, Any]
) -> Annotated[Folder, "tracking"]:
    """Record the comparison; ``tracking`` is the URI without credentials, ``changes`` hold each variant's own settings."""
    from components.registry.comparisons import log_comparison
    from components.registry.tracking import open_tracking

    out = scratch("track")
    out.mkdir(parents=True)
    runs = log_comparison(open_tracking(tracking_uri), experiment=experiment, folder=comparison.path, settings=settings, changes=changes)
    write_json(out / "tracking.json", {**runs, "tracking_uri": tracking})
    return Folder(out)
