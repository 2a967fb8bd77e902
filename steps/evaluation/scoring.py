"""Scoring: what the steps that score have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.config import ScoringSection
from components.core.paths import read_json
from steps.evaluation.reference import reference_of
from steps.io.artifacts import Folder


def scored_folders(pictures: Folder, base_pictures: Folder) -> dict[str, Path]:
    """The folders of drawn pictures, in the order in which their features are extracted."""
    return {"style": pictures.path / "style", "base": base_pictures.path, "plain": pictures.path / "plain"}


def score_into(
    out: Path, style_set: Folder, split: Folder, pictures: Folder, base_pictures: Folder, seed: int, tokens: list[str],
    scoring: dict[str, Any], weights: dict[str, Any],
) -> None:  # fmt: skip
    """Score into the folder ``out``; the other arguments as of the step ``score``."""
    from components.evaluation.protocol import score_and_keep

    held_out = not read_json(split.path / "split.json")["reference_is_style_ref"]
    score_and_keep(
        out, scored_folders(pictures, base_pictures), reference_of(style_set, split),
        reference_kind="held-out" if held_out else "style_ref", settings=ScoringSection(**scoring), seed=seed, tokens=tokens,
        digests={"pictures": pictures.digest, "base_pictures": base_pictures.digest, "style_set": style_set.digest, **weights},
    )  # fmt: skip
