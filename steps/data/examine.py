"""Step: assess before training whether the style set can be learned, and with this base (only if `examine.enabled` is set)."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import ExamineSection, SamplingSection
from components.core.paths import read_json
from steps.data.validate import keep
from steps.io.artifacts import Folder, link_or_copy
from steps.io.base_model import load_base
from steps.io.caching import code_of
from steps.io.clip_encoder import encoder_factory
from steps.io.workspace import scratch

_logger = logging.getLogger(__name__)


@step(environment=code_of(__file__))
def examine(
    style_set: Folder, validation: Folder, split: Folder, settings: dict[str, Any], base: dict[str, Any], sampling: dict[str, Any],
    extractor: dict[str, Any], seed: int,
) -> Annotated[Folder, "examined"]:  # fmt: skip
    """The validation with the examination beside it.

    Args:
        settings: the ``examine`` section of the configuration.
        base: the model that draws the captions with ``sampling`` and ``seed``; its VAE sets the ceiling.
        extractor: the CLIP that recognizes what a picture shows.

    Raises:
        GateRefused: ``hard`` is set and there is a warning about the set.
    """
    out = scratch("examine")
    from components.evaluation.examination import PAGE

    section = ExamineSection(**settings)
    found = examine_set(style_set.path, split.path, section, extractor, base, sampling, seed)
    for relative in validation.files():
        link_or_copy(validation.path / relative, out / relative)
    found.write(out, style_set.path)
    # A failed step stores no artifact, so keep the page that shows the pictures elsewhere.
    found.raise_if_refused(section.hard, keep(out, style_set.digest) / PAGE if section.hard and found.warnings else None)
    for line in found.warnings:
        _logger.warning("%s", line)
    return Folder(out)


def examine_set(
    style_set: Path, split: Path, settings: ExamineSection, extractor: Mapping[str, Any], base: dict[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None, seed: int = 0,
) -> Any:  # fmt: skip
    """Examine a style set and its split; without ``base``, checks that need its drawings or its VAE are skipped and reported as skipped."""
    from components.evaluation.examination import SetPicture, examine_pictures
    from components.styledata.manifest import Manifest

    roles = {row["path"]: row.get("role") or "" for row in read_json(split / "split.json")["style_ref"]}
    entries = Manifest.load(style_set).usable("style_ref")
    count = min(settings.pictures, len(entries))
    entries = tuple(entries[place * len(entries) // count] for place in range(count))
    pictures = [SetPicture(entry.path, roles.get(entry.path, ""), entry.caption, entry.load(style_set)) for entry in entries]
    if base is not None:
        from components.diffusion.sampling.requests import request_for
        from components.diffusion.sampling.round_trip import round_trip
        from components.diffusion.sampling.sampler import draw_pictures

        bundle = load_base(base)
        for picture, (view, returned) in zip(pictures, round_trip(bundle, [picture.image for picture in pictures]), strict=True):
            picture.view, picture.returned = view, returned
        template = settings.prompt.replace("{caption}", "{prompt}")
        captioned = {f"{place:04d}": picture for place, picture in enumerate(pictures) if picture.caption}
        requests = [request_for(key, picture.role, str(picture.caption), template) for key, picture in captioned.items()]
        for request, drawn in draw_pictures(bundle, requests, SamplingSection(**(sampling or {})), seed):
            captioned[request.id].drawn = drawn
    return examine_pictures(pictures, settings, encoder_factory(extractor)(), asked_base=base is not None)
