"""Step: generate a few images and map where they attend to each word."""

from typing import Annotated, Any

from zenml import step

from components.core.config import SamplingSection
from components.core.model_card import as_chosen
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def explain(
    model: Folder, seed: int, concepts: list[dict[str, Any]], sampling: dict[str, Any], bank: str, prompts: int, words: list[str]
) -> Annotated[Folder, "attention"]:
    """Draw ``prompts`` prompts of the bank again, evenly from all categories, each's first repeat, and map the attention of their words.

    ``concepts`` and ``bank`` (a digest) are as in ``sample_bank``, ``sampling`` holds the settings that affect a style picture, and
    ``words`` are mapped in addition to identifiers and "style". Nothing is drawn if the model's family has no cross-attention.
    """
    from components.diffusion.attention import heatmaps
    from components.diffusion.attention.capture import has_maps, words_to_map
    from components.diffusion.models.bundle import load_bundle
    from steps.sampling.requests import bank_requests, spread

    out = scratch("explain")
    bundle = load_bundle(str(model.path)) if prompts else None
    if bundle is None or not has_maps(bundle):
        return Folder(heatmaps.write_nothing(out))
    settings = as_chosen(model.path, SamplingSection(**sampling))
    identifiers = [str(concept["token"]) for concept in concepts]
    chosen = spread(bank_requests(settings.bank, settings.limit, settings.style_template, concepts), prompts)
    mapped = [(request, words_to_map(request, identifiers, words)) for request in chosen]
    return Folder(heatmaps.explain(bundle, mapped, settings, seed, out))
