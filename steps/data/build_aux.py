"""Step: collect or generate the auxiliary (Aux) images that preserve what the base knows."""

from pathlib import Path
from typing import Annotated, Any

from zenml import step

from steps.io.artifacts import Folder
from steps.io.base_model import load_base
from steps.io.caching import code_of
from steps.io.clip_encoder import encoder_factory
from steps.io.workspace import scratch


@step(environment=code_of(__file__))
def build_aux(
    style_set: Folder,
    source: str,
    parts: list[dict[str, Any]],
    extractor: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
    sampling: dict[str, Any] | None = None,
    seed: int = 0,
) -> Annotated[Folder, "aux"]:
    """Curate, copy or draw the Aux set, in one part a concept; arguments that the source has no use for keep their defaults.

    Args:
        source: ``curated``, ``generated``, ``target`` or ``none``.
        parts: for each part its ``concept`` (a token; None: all), ``roles`` of the pictures (None: as in the papers, mostly
            people), ``count`` (curated, generated), ``form`` of art (curated) and class ``prompt`` (generated).
        extractor: the CLIP that ranks the pool (curated).
        base: the model that draws the pictures with ``sampling`` and ``seed`` (generated).
    """
    from components.styledata import auxiliary

    out = scratch("build_aux")
    made = []
    for index, part in enumerate(parts):
        folder = out if len(parts) == 1 else out.parent / f"part-{index}"
        _build(style_set, folder, source, part, extractor or {}, base or {}, sampling or {}, seed)
        made.append((part["concept"], folder))
    if len(parts) > 1:
        auxiliary.join(made, out)
    return Folder(out)


def _build(
    style_set: Folder, out: Path, source: str, part: dict[str, Any], extractor: dict[str, Any], base: dict[str, Any],
    sampling: dict[str, Any], seed: int,
) -> None:  # fmt: skip
    from components.styledata import auxiliary

    if source == "curated":
        encoder = encoder_factory(extractor)
        auxiliary.curate(style_set.path, out, count=part["count"], form=part["form"], encoder=encoder, roles=part["roles"])
    elif source == "generated":
        from components.core.config import SamplingSection
        from components.diffusion.sampling.sampler import sample_class_pictures

        pictures = sample_class_pictures(load_base(base), part["prompt"], part["count"], SamplingSection(**sampling), seed)
        auxiliary.pack_generated(pictures, out, part["prompt"])
    elif source == "target":
        auxiliary.copy_target(style_set.path, out, roles=part["roles"])
    else:
        auxiliary.no_aux(out)
