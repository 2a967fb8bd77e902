"""How restyled images are judged: by their likeness to StyleRef, and to the image that each was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components.core.config import ScoringSection
from components.core.metrics import SPECS, Metric
from components.core.paths import read_json
from components.evaluation.extraction import extract
from components.evaluation.extractors.base import Extractor, Features
from components.evaluation.extractors.clip import ClipEncoder
from components.evaluation.extractors.factory import make_extractor
from components.evaluation.extractors.thumbnail import ThumbnailExtractor
from components.evaluation.metrics import Array, Bootstrap, mean_with_interval, to_unit
from components.evaluation.protocol import PROTOCOL, YARDSTICK
from components.evaluation.yardstick import FEWEST, Yardstick

SOURCE = "source"
LABELS = {SOURCE: "before", "adain": "AdaIN of latents", "gram": "Gram matrices", "restyled": "the style model"}
"""The versions of an image, by what made them, in the order of tables."""
MEASURES: dict[str, Metric] = {
    "style_score": SPECS["style_score"],
    "likeness": Metric(
        "likeness", "likeness", False, "cosine", "likeness to the image before, in the features of scoring.extractor", bounded=True
    ),
    "layout": Metric("layout", "layout", False, "correlation", "the same of thumbnails of 8 × 8 pixels", bounded=True),
}


@dataclass(frozen=True)
class Judge:
    """What images are judged with: the settings that a model was scored with, its yardstick, and the ids of its extractors.

    If the model has no yardstick, style features are standardised by the source images instead, so that 0 is their mean.
    """

    settings: ScoringSection
    yardstick: Yardstick = field(default_factory=lambda: Yardstick({}))
    extractors: Sequence[str] = ()

    @classmethod
    def of(cls, evaluation: Path) -> Judge:
        """The judge that fits a model's evaluation; the defaults if there is none."""
        if not (evaluation / PROTOCOL).is_file():
            return cls(ScoringSection())
        protocol = read_json(evaluation / PROTOCOL)
        return cls(ScoringSection(**protocol["scoring"]), Yardstick.load(evaluation / YARDSTICK), protocol["extractors"])

    def score(self, images: Mapping[str, Sequence[Path]], style_ref: Sequence[Path], seed: int = 0) -> dict[str, Any]:
        """Score N images in each of their versions, keyed by the names in ``LABELS``; ``source`` must be among them.

        Returns:
            ``methods``: for each version its ``style_score``, ``likeness`` and ``layout``, each with value, low, high and n, or None if it
            cannot be measured; low and high are None for a single image. ``images``: the same, as N values each. ``extractors`` by measure,
            the ``confidence`` of the intervals, and ``notes`` on what was not measured as usual, and why.
        """
        clip = ClipEncoder(self.settings.extractor, self.settings.extractor_revision, batch_size=self.settings.batch_size)
        style, layout = make_extractor(self.settings.style_extractor, "scoring.style_extractor"), ThumbnailExtractor()
        paths = [path for version in images.values() for path in version]
        table = extract([*paths, *style_ref], [clip, style, layout], self.settings.batch_size)
        yardstick, notes = self.yardstick, []
        # The yardstick holds one extractor's features, which cannot be compared with those of another one.
        if not yardstick.has("style_score") or style.id not in self.extractors:
            yardstick = Yardstick({})
            notes = _measure_by_sources(yardstick, table.of(style, images[SOURCE]), table.of(style, style_ref) if style_ref else None)

        def values(version: str, measure: str) -> Array | None:
            if measure == "style_score":
                return yardstick.values(measure, table.of(style, images[version])) if yardstick.has(measure) else None
            if version == SOURCE:
                return None
            extractor: Extractor = clip if measure == "likeness" else layout
            after, before = (to_unit(np.asarray(table.of(extractor, images[name]), np.float64)) for name in (version, SOURCE))
            return np.einsum("nd,nd->n", after, before)

        found = {version: {measure: values(version, measure) for measure in MEASURES} for version in images}
        bootstrap = Bootstrap(self.settings.bootstrap, self.settings.confidence, seed, small_sample=True)
        return {
            "methods": {version: {name: _mean(rows, bootstrap) for name, rows in row.items()} for version, row in found.items()},
            "images": {
                version: {name: None if rows is None else rows.tolist() for name, rows in row.items()} for version, row in found.items()
            },
            "extractors": {"style_score": style.name, "likeness": clip.name, "layout": layout.name},
            "confidence": self.settings.confidence, "notes": notes,
        }  # fmt: skip


def _mean(values: Array | None, bootstrap: Bootstrap) -> dict[str, Any] | None:
    if values is None:
        return None
    found = vars(mean_with_interval(values, None, bootstrap))
    return found if len(values) > 1 else found | {"low": None, "high": None}


def _measure_by_sources(yardstick: Yardstick, sources: Features, style_ref: Features | None) -> list[str]:
    """Build the yardstick from StyleRef and the source images, if they suffice; returns notes about it."""
    if style_ref is None or len(sources) < FEWEST:
        why = (
            "its StyleRef is not available"
            if style_ref is None
            else f"too few images for a scale of their own ({len(sources)}; needed: {FEWEST})"
        )
        return [f"style: the model was not scored against StyleRef when it was trained, and {why}"]
    yardstick.add_style(sources, style_ref, None)
    return [*yardstick.notes, "style: the model was not scored against StyleRef when it was trained; 0 is the middle of the images before"]
