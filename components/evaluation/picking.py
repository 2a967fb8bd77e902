"""Automatic picks among drawn images: those most like StyleRef, one per prompt, and no copies of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.core.images import load_rgb
from components.evaluation.extraction import extract
from components.evaluation.extractors.base import Extractor
from components.evaluation.extractors.thumbnail import ThumbnailExtractor
from components.evaluation.pictures import Picture
from components.evaluation.yardstick import Yardstick, variants

BATCH = 64


def pick(drawn: Sequence[Picture], style_ref: Sequence[Path], extractor: Extractor, count: int) -> list[Picture]:
    """At most ``count`` of the images, one per prompt, the most like StyleRef first; none if likeness to StyleRef cannot be measured.

    Likeness is the mean cosine to StyleRef in features standardised by the drawn images themselves. An image that is nearer to a StyleRef
    image than 99 % of StyleRef's images are to their nearest is left out as a copy, if StyleRef is large enough to tell.
    """
    copies, yardstick = ThumbnailExtractor(), Yardstick({})
    paths = [picture.path for picture in drawn]
    table = extract([*paths, *style_ref], [extractor, copies], BATCH)
    yardstick.add_style(table.of(extractor, paths), table.of(extractor, style_ref), None)
    yardstick.add_copies(np.stack([copies.encode_images(variants(load_rgb(path))) for path in style_ref]))
    if not yardstick.has("style_score"):
        return []
    likeness = yardstick.values("style_score", table.of(extractor, paths))
    copied = yardstick.values("copies", table.of(copies, paths)) > 0 if yardstick.has("copies") else np.zeros(len(paths), bool)
    best: dict[str, Picture] = {}
    for index in np.argsort(-likeness, kind="stable"):
        if not copied[index]:
            best.setdefault(drawn[index].prompt_id, drawn[index])
    return list(best.values())[:count]
