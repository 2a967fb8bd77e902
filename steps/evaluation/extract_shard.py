"""Step: extract the features of one shard (`--shards`)."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from components.core.config import ScoringSection
from steps.evaluation.reference import reference_of
from steps.evaluation.scoring import scored_folders
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def extract_shard(
    style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, scoring: dict[str, Any], weights: dict[str, Any],
    shard: int, shards: int,
) -> Annotated[Folder, "features"]:  # fmt: skip
    """Extract the features of every n-th batch of the pictures that are to be scored; ``shard`` counts from 0."""
    from components.evaluation.shards import extract_shard as extract

    folders = list(scored_folders(pictures, base_pictures).values())
    return Folder(extract(folders, reference_of(style_set, split), ScoringSection(**scoring), (shard, shards), scratch("extract_shard")))
