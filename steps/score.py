"""Step: pictures become numbers."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from components.config import ScoringSection
from components.paths import read_json, write_json
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
    from components.evaluation.features import Towers
    from components.evaluation.protocol import write_protocol
    from components.evaluation.scoring import score as score_pictures

    division = read_json(split.path / "split.json")
    reference = [style_set.path / "images" / path for path in division["reference"]]
    settings = ScoringSection(**scoring)
    towers = Towers(settings.extractor, settings.extractor_revision, batch_size=settings.batch_size)
    scores = score_pictures(
        pictures.path / "style", base_pictures.path, pictures.path / "plain", None, reference, settings, seed, tokens,
        reference_kind="style_ref" if division["reference_is_style_ref"] else "held-out", towers=towers,
    )  # fmt: skip
    scores["digests"] = {
        **scores.get("digests", {}), "pictures": pictures.digest, "base_pictures": base_pictures.digest,
        "style_set": style_set.digest, **weights,
    }  # fmt: skip
    out = scratch("score")
    out.mkdir(parents=True)
    write_json(out / "scores.json", scores)
    write_protocol(
        out, pictures=pictures.path / "style", reference=reference, settings=settings, scores=scores, identifier=tokens, towers=towers
    )
    return Folder(out)
