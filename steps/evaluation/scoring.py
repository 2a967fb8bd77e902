"""Pictures become numbers: what the steps that score have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.config import ScoringSection
from components.core.paths import read_json
from steps.io.artifacts import Folder


def scored_folders(pictures: Folder, base_pictures: Folder) -> dict[str, Path]:
    """The folders of drawn pictures, in the order in which their features are extracted."""
    return {"style_pictures": pictures.path / "style", "base_pictures": base_pictures.path, "plain_pictures": pictures.path / "plain"}


def reference_of(style_set: Folder, split: Folder) -> list[Path]:
    """The pictures of the style that the others are measured to."""
    return [style_set.path / "images" / path for path in read_json(split.path / "split.json")["reference"]]


def score_into(
    out: Path, style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, seed: int, tokens: list[str],
    scoring: dict[str, Any], weights: dict[str, Any],
) -> None:  # fmt: skip
    """Score the style model's pictures and the base's against the held-out reference.

    Args:
        out: the folder to write.
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
    score_and_keep(
        out, **scored_folders(pictures, base_pictures), reference=reference_of(style_set, split),
        reference_kind="style_ref" if division["reference_is_style_ref"] else "held-out",
        settings=ScoringSection(**scoring), seed=seed, identifier=tokens,
        digests={"pictures": pictures.digest, "base_pictures": base_pictures.digest, "style_set": style_set.digest, **weights},
    )  # fmt: skip
