"""Step: compute the same scores from the shards' features (`--shards`)."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from steps.evaluation.scoring import score_into
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def score_joined(
    features: list[Folder], style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, seed: int, tokens: list[str],
    scoring: dict[str, Any], weights: dict[str, Any],
) -> Annotated[Folder, "scores"]:  # fmt: skip
    """Score as ``score`` does, from ``features`` of all shards, without seeing a picture of the shards again."""
    from components.evaluation.shards import remember

    remember([shard.path for shard in features])
    out = scratch("score_joined")
    score_into(out, style_set, split, pictures, base_pictures, seed, tokens, scoring, weights)
    return Folder(out)
