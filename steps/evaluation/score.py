"""Steps that score the style model's pictures, whole or in shards.

- ``score``: Compute FID, KID, CLIP-T, CLIP-I and drift, each with an interval.
- ``extract_shard``: Extract the features of one shard (`--shards`).
- ``score_joined``: Compute the same scores from the shards' features (`--shards`).
"""

from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import ScoringSection
from components.core.paths import read_json
from steps.evaluation.reference import concepts_of, reference_of, style_ref_of
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


def scored_folders(pictures: Folder, base_pictures: Folder) -> dict[str, Path]:
    """Return the folders of drawn pictures, in the order in which their features are extracted."""
    return {"style": pictures.path / "style", "base": base_pictures.path, "plain": pictures.path / "plain"}


def score_into(
    out: Path, style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, seed: int, tokens: list[str],
    scoring: dict[str, Any], weights: dict[str, Any],
) -> None:  # fmt: skip
    """Score into the folder ``out``; the other arguments are those of the step ``score``."""
    from components.evaluation.protocol import score_and_keep

    asked: dict[str, Any] = {"concepts": concepts_of(style_set, split)} if "truth" in scoring["measures"] else {}
    held_out = not read_json(split.path / "split.json")["reference_is_style_ref"]
    score_and_keep(
        out, scored_folders(pictures, base_pictures), reference_of(style_set, split), style_ref=style_ref_of(style_set),
        reference_kind="held-out" if held_out else "style_ref", settings=ScoringSection(**scoring), seed=seed, tokens=tokens,
        digests={"pictures": pictures.digest, "base_pictures": base_pictures.digest, "style_set": style_set.digest, **weights},
        **asked,
    )  # fmt: skip


@step(environment=code_of(__file__))
def score(
    style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, seed: int, tokens: list[str], scoring: dict[str, Any],
    weights: dict[str, Any],
) -> Annotated[Folder, "scores"]:  # fmt: skip
    """Score the style model's pictures and the base's against the held-out reference; ``weights`` are digests of the extractors' files."""
    out = scratch("score")
    score_into(out, style_set, split, pictures, base_pictures, seed, tokens, scoring, weights)
    return Folder(out)


@step(environment=code_of(__file__))
def extract_shard(
    style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, scoring: dict[str, Any], weights: dict[str, Any],
    shard: int, shards: int,
) -> Annotated[Folder, "features"]:  # fmt: skip
    """Extract the features of every n-th batch of the pictures that are to be scored; ``shard`` counts from 0."""
    from components.evaluation.shards import extract_shard as extract

    folders = list(scored_folders(pictures, base_pictures).values())
    return Folder(extract(folders, reference_of(style_set, split), ScoringSection(**scoring), (shard, shards), scratch("extract_shard")))


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
