"""Step: the style model draws the prompt bank, in the style and, for the drift, without it."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from components.config import SamplingSection
from steps.artifacts import Folder
from steps.caching import cache_policy
from steps.workspace import resumable


@step(cache_policy=cache_policy(__file__))
def sample_bank(
    model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], bank: str
) -> Annotated[Folder, "pictures"]:
    """Draw the bank into ``style/`` and, once a prompt, ``plain/``; pictures that an interrupted run left are kept.

    Args:
        model: of ``fine_tune``.
        seed: of the run.
        concepts: each ``token`` bound to the style, with the bank's ``categories`` that ask for it.
        sampling: the sampling section.
        bank: digest of the bank's file.
    """
    from components.diffusion import sampling as sampler
    from components.diffusion.bundle import load_bundle
    from steps.requests import bank_requests

    settings = SamplingSection(**sampling)
    out = resumable("sample_bank", "pictures", key=[model.digest, seed, concepts, sampling, bank])
    bundle = load_bundle(str(model.path))
    styled = bank_requests(settings.bank, settings.limit, settings.style_template, concepts)
    sampler.sample_bank(bundle, styled, settings, seed, out / "style")
    plain = bank_requests(settings.bank, settings.limit, settings.plain_template)
    sampler.sample_bank(bundle, plain, settings.model_copy(update={"repeats": 1}), seed, out / "plain")
    return Folder(out)
