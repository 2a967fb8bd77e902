"""Step: draw the same bank with the base: the baseline, shared by all styles."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from components.core.config import SamplingSection
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import resumable


@step(environment=code_of(__file__))
def sample_base(seed: int, base: dict[str, Any], sampling: dict[str, Any], bank: str) -> Annotated[Folder, "base_pictures"]:
    """Draw the bank with the plain template. Nothing of the style goes in, so all styles share the result.

    ``base`` has ``model``, ``revision`` and the ``digest`` of its files; ``sampling`` is without the style's template.
    """
    from components.diffusion.models.bundle import load_bundle
    from components.diffusion.sampling import sampler
    from steps.sampling.requests import bank_requests

    settings = SamplingSection(**sampling)
    out = resumable("sample_base", "pictures", key=[base["digest"], seed, sampling, bank])
    bundle = load_bundle(base["model"], revision=base["revision"])
    plain = bank_requests(settings.bank, settings.limit, settings.plain_template)
    sampler.sample_bank(bundle, plain, settings, seed, out)
    return Folder(out)
