"""People's votes on a registered version, stored in its tag, which the gate reads, and among the metrics of its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.core.errors import InputError
from components.registry.tracking import Tracking, service_errors
from components.registry.versions import TAG_PREFIX, find_version, refusal

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

VOTES = f"{TAG_PREFIX}votes"
MODEL_DIGEST = f"{TAG_PREFIX}model_digest"
_METRICS = {"artist": "taken_for_artist", "style": "preferred_in_style", "like": "preferred"}
"""The score that a page's votes yield, by the question that the page asks."""


def log_votes(tracking: Tracking, reference: str, key: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Log the votes on a blind page to the version whose images it shows; returns ``name/version``.

    ``key`` is the page's key, ``result`` the result of scoring the answers. Votes from an earlier page with the same question are
    replaced. InputError if the page shows no image of that version.
    """
    with service_errors(tracking.uri):
        version = find_version(tracking, reference)
        name = f"{version.name}/{version.version}"
        digest = version.tags.get(MODEL_DIGEST)
        sources = key["sources"]
        side = next((role for role, source in sources.items() if digest and source.get("model_digest") == digest), None)
        if side is None:
            shown = ", ".join(str(source.get("model") or source["name"]) for source in sources.values())
            raise InputError(
                f"--model {reference}", f"the page shows no image of {name}", expected=f"the model that it shows ({shown})",
                remedy="name that one, or make a page from this model's run",
            )  # fmt: skip
        rate = {part: float(result["rate"][part]) for part in ("value", "low", "high")}
        if side == "b":
            rate = {"value": 100 - rate["value"], "low": 100 - rate["high"], "high": 100 - rate["low"]}
        metric = _METRICS[str(key["kind"])]
        over = [str(source.get("model") or source["name"]) for role, source in sources.items() if role != side]
        found = {**rate, "n": int(result["rate"]["n"]), "people": int(result["people"]), "page": key["page"], "over": over}
        text = json.dumps({**votes_of(version), metric: found}, sort_keys=True)
        tracking.client.set_model_version_tag(version.name, str(version.version), VOTES, text)
        if version.run_id:
            rows = [(f"votes/{metric}" + ("" if part == "value" else f"_{part}"), value, 0) for part, value in rate.items()]
            tracking.log_metrics(str(version.run_id), rows)
    return name


def votes_of(version: ModelVersion) -> dict[str, Any]:
    """The votes on a version, by score; empty if nobody was asked, GateRefused if the tag is damaged."""
    try:
        found = json.loads(version.tags.get(VOTES, "{}"))
        if all(isinstance(score[part], int | float) for score in found.values() for part in ("value", "low", "high", "people")):
            return dict(found)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise refusal(
        version, f"its tag {VOTES} is damaged", "what `styleforge blind score --model` writes", "remove the tag, then score again"
    )
