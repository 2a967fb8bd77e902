"""Step: the Aux pictures that keep the base's knowledge alive during fine-tuning."""

from __future__ import annotations

from typing import Annotated, Any

from zenml import step

from steps.artifacts import Folder
from steps.caching import cache_policy
from steps.towers import towers_factory
from steps.workspace import scratch


@step(cache_policy=cache_policy(__file__))
def build_aux(
    style_set: Folder,
    source: str,
    count: int = 0,
    form: str = "",
    extractor: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
    prompt: str = "",
    sampling: dict[str, Any] | None = None,
    seed: int = 0,
) -> Annotated[Folder, "aux"]:
    """Curate, copy or draw the Aux set; arguments that the source has no use for keep their defaults.

    Args:
        style_set: of ``scan``.
        source: ``curated``, ``generated``, ``target`` or ``none``.
        count: number of pictures (curated, generated).
        form: form of art that curated pictures should be close to.
        extractor: CLIP that ranks the pool (curated).
        base: model that draws (generated).
        prompt: the class prompt (generated).
        sampling: how to draw (generated).
        seed: of drawing (generated).
    """
    from components.styledata import auxiliary

    out = scratch("build_aux")
    if source == "curated":
        auxiliary.curate(style_set.path, out, count=count, form=form, towers=towers_factory(extractor or {}))
    elif source == "generated":
        from components.config import SamplingSection
        from components.diffusion.bundle import load_bundle
        from components.diffusion.sampling import sample_class_pictures

        base = base or {}
        bundle = load_bundle(base["model"], revision=base.get("revision"))
        pictures = sample_class_pictures(bundle, prompt, count, SamplingSection(**(sampling or {})), seed)
        auxiliary.pack_generated(pictures, out, prompt)
    elif source == "target":
        auxiliary.copy_target(style_set.path, out)
    else:
        auxiliary.no_aux(out)
    return Folder(out)
