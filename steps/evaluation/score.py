"""Step: compute FID, KID, CLIP-T, CLIP-I and drift, each with an interval."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from steps.evaluation.scoring import score_into
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def score(
    style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, seed: int, tokens: list[str], scoring: dict[str, Any],
    weights: dict[str, Any],
) -> Annotated[Folder, "scores"]:  # fmt: skip
    """Score the style model's pictures and the base's against the held-out reference; ``weights`` are digests of the extractors' files."""
    out = scratch("score")
    score_into(out, style_set, split, pictures, base_pictures, seed, tokens, scoring, weights)
    return Folder(out)
