"""A bank drawn by a style model, whole or in shards: in the style, and, for the drift, without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.core.config import SamplingSection
from components.core.shards import Shard
from steps.io.artifacts import Folder

PARTS = ("style", "plain")


def draw_bank(out: Path, model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], shard: Shard = (0, 1)) -> None:
    """Draw the bank into ``style/`` and, once a prompt, ``plain/``; pictures that are there and right are kept."""
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling import sampler
    from steps.sampling.requests import bank_requests

    settings = SamplingSection(**sampling)
    bundle = load_bundle(str(model.path))
    styled = bank_requests(settings.bank, settings.limit, settings.style_template, concepts)
    sampler.sample_bank(bundle, styled, settings, seed, out / "style", shard)
    plain = bank_requests(settings.bank, settings.limit, settings.plain_template)
    sampler.sample_bank(bundle, plain, settings.model_copy(update={"repeats": 1}), seed, out / "plain", shard)
