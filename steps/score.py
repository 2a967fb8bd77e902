"""Step: pictures become numbers."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from components.config import ScoringSection
from components.paths import read_json
from steps.artifacts import Folder
from steps.caching import cache_policy
from steps.workspace import scratch


@step(cache_policy=cache_policy(__file__))
def score(
    style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, seed: int, tokens: list[str], scoring: dict[str, Any],
    weights: dict[str, Any],
) -> Annotated[Folder, "scores"]:  # fmt: skip
    """Score the style model's pictures and the base's against the held-out reference.

    Args:
        style_set: of ``scan``.
        split: of ``split``; names the reference.
        pictures: of ``sample_bank``.
        base_pictures: of ``sample_base``.
        seed: of the run; draws subsets and resamples.
        tokens: the tokens bound to the style.
        scoring: the scoring section.
        weights: digests of the extractors' files.
    """
    from components.evaluation.protocol import score_and_keep

    division = read_json(split.path / "split.json")
    out = scratch("score")
    score_and_keep(
        out, style_pictures=pictures.path / "style", base_pictures=base_pictures.path, plain_pictures=pictures.path / "plain",
        reference=[style_set.path / "images" / path for path in division["reference"]],
        reference_kind="style_ref" if division["reference_is_style_ref"] else "held-out",
        settings=ScoringSection(**scoring), seed=seed, identifier=tokens,
        digests={"pictures": pictures.digest, "base_pictures": base_pictures.digest, "style_set": style_set.digest, **weights},
    )  # fmt: skip
    return Folder(out)
