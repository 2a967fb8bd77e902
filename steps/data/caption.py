"""Step: write captions for images that have none, with a vision-language model (only if `captions.model` is set)."""

import logging
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from zenml import step

from components.core.config import CaptionsSection
from components.core.paths import link_or_copy
from steps.io.artifacts import Folder
from steps.io.caching import code_of
from steps.io.workspace import scratch

_logger = logging.getLogger(__name__)


@step(environment=code_of(__file__))
def caption(style_set: Folder, captions: dict[str, Any], splits: list[str], digest: str) -> Annotated[Folder, "captioned"]:
    """The style set with captions for the pictures of ``splits`` that lack one.

    ``captions`` is the configuration section; ``digest``, that of the model, is used only in the cache key.
    """
    from components.captioning.describe import Picture, describe
    from components.captioning.sources import captioner_id
    from components.styledata.captions import waiting, write_captioned
    from components.styledata.manifest import IMAGES, Manifest

    settings = CaptionsSection(**captions)
    manifest = Manifest.load(style_set.path)
    pictures = [Picture(entry.path, entry.sha256, partial(entry.load, style_set.path)) for entry in waiting(manifest, splits)]
    found = {path: text for batch in describe(pictures, settings) for path, text in batch.items()}
    out = scratch("caption")
    for relative in style_set.files():
        if relative.is_relative_to(Path(IMAGES)):
            link_or_copy(style_set.path / relative, out / relative)
    write_captioned(manifest, found, captioner_id(str(settings.model), settings.revision), out)
    if empty := sorted(path for path, text in found.items() if not text):
        _logger.warning("the model gave no usable caption for %d images, such as %s", len(empty), empty[0])
    _logger.info("%d of %d images were captioned by %s", len(found) - len(empty), len(manifest.entries), settings.model)
    return Folder(out)
