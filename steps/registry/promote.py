"""Steps: judge a registered version against the gate, and move the alias `champion` if it passes."""

from typing import Annotated, Any

from zenml import step

from components.core.paths import read_json, write_json
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch

VERDICT = "promotion.json"


def _promote(name: str, request: dict[str, Any]) -> Folder:
    from components.core.config import validate_model
    from components.registry.gate import GateConfig
    from components.registry.promotion import PromotionRequest, promote
    from components.registry.tracking import open_tracking
    from steps.evaluation.rescoring import tools

    tracking = open_tracking()
    gate = validate_model(GateConfig, request["gate"], "gate")
    result = promote(tracking, PromotionRequest(**{**request, "gate": gate}), tools(tracking))
    out = scratch(name)
    out.mkdir(parents=True)
    write_json(out / VERDICT, result.as_dict())
    return Folder(out)


# Never cached: the registry changes without ZenML noticing.
@step(environment=code_of(__file__), enable_cache=False)
def judge(request: dict[str, Any]) -> Annotated[Folder, "verdict"]:
    """Verify a version's files and hold its scores against the gate; where the champion was scored otherwise, score it anew.

    ``request`` holds the fields of a :class:`components.registry.promotion.PromotionRequest`, with the gate as plain data.
    """
    return _promote("judge", {**request, "dry_run": True})


@step(environment=code_of(__file__), enable_cache=False)
def promote(verdict: Folder, request: dict[str, Any]) -> Annotated[Folder, "promotion"]:
    """Move the alias, if the gate let the version pass; the champion is read again under the lock."""
    judged = read_json(verdict.path / VERDICT)
    if judged["status"] != "completed" or request["dry_run"]:
        return verdict
    # Promote the version that was judged, even if the name or alias now refers to another.
    return _promote("promote", {**request, "reference": judged["model"]["source"]})
