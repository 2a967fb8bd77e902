"""Scoring, in images per second: one pass for all scores, against one score at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Prepare, Work
from benchmarks.world import World

if TYPE_CHECKING:
    from components.evaluation.extractors.base import Extractor, Features
    from components.evaluation.extractors.clip import ClipEncoder
    from components.evaluation.metrics import Bootstrap
    from components.evaluation.pictures import Picture

NOTE = (
    "one score at a time, and each reads, decodes and encodes its images and prompts anew; "
    "the scores by category, which only StyleForge's way gives, are left out"
)


def ours(world: World) -> Prepare:
    """Score as StyleForge does, with an empty feature cache."""
    encoder, count = load_encoder(world), picture_count(world)

    def prepare(number: int) -> Work:
        def work() -> int:
            all_at_once(world, encoder, world.folder / "homes" / f"scoring-{number}")
            return count

        return work

    return prepare


def plain(world: World) -> Prepare:
    """Compute the same scores one after the other."""
    scores, count = PlainScores(world, load_encoder(world)), picture_count(world)

    def work() -> int:
        scores.all()
        return count

    return lambda number: work


def load_encoder(world: World) -> ClipEncoder:
    """Load the CLIP encoder of the run."""
    from components.evaluation.extractors.clip import ClipEncoder

    scoring = world.config.scoring
    return ClipEncoder(scoring.extractor, scoring.extractor_revision, batch_size=scoring.batch_size)


def picture_count(world: World) -> int:
    """Count the distinct pictures that go into the scores; the number is the same for both ways."""
    drawn = sum(len(list((world.pictures(name) / "images").iterdir())) for name in ("style", "base", "plain"))
    return drawn + len(world.reference)


def all_at_once(world: World, encoder: ClipEncoder, home: Path) -> dict[str, Any]:
    """Compute every score in one pass, with the feature cache in ``home``."""
    from components.evaluation.features import Extractors
    from components.evaluation.scoring import score

    folders = {name: world.pictures(name) for name in ("style", "base", "plain")}
    run = world.config
    with state_in(home):
        return score(folders, world.reference, run.scoring, run.seed, [run.method.identifier], extractors=Extractors(encoder))[0]


@contextmanager
def state_in(home: Path) -> Iterator[None]:
    """Within the block, make StyleForge keep its state in ``home``."""
    before = os.environ.get("STYLEFORGE_HOME")
    os.environ["STYLEFORGE_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["STYLEFORGE_HOME"]
        else:
            os.environ["STYLEFORGE_HOME"] = before


class PlainScores:
    """Computes each score from the files in its own function, with its interval, as separate scripts would."""

    def __init__(self, world: World, encoder: ClipEncoder) -> None:
        from components.evaluation.extractors.inception import InceptionExtractor
        from components.evaluation.pictures import read_pictures

        self.world, self.encoder, self.settings = world, encoder, world.config.scoring
        weights = self.settings.inception_weights
        self.inception = InceptionExtractor(weights, batch_size=self.settings.batch_size) if weights else None
        self.sets = {name: read_pictures(world.pictures(name)) for name in ("style", "base", "plain")}

    def all(self) -> dict[str, dict[str, Any]]:
        """Compute the scores of ``components.evaluation.scoring.score``, except those by category."""
        sets, base = self.sets, [picture.path for picture in self.sets["base"]]
        found: dict[str, dict[str, Any]] = {}
        for name in ("style", "base"):
            pictures = sets[name]
            found[name] = {
                "kid": self.kid(pictures, self.world.reference), "fid": self.fid(pictures), "clip_t": self.clip_t(pictures),
                "clip_i": self.clip_i(pictures),
            }  # fmt: skip
        found["drift"] = {
            "clip_t": self.clip_t(sets["plain"]), "clip_t_base": self.clip_t(sets["base"]), "clip_i": self.clip_i(sets["plain"]),
            "clip_i_base": self.clip_i(sets["base"]), "kid_to_base": self.kid(sets["plain"], base),
        }  # fmt: skip
        return found

    def kid(self, pictures: list[Picture], reference: list[Path]) -> dict[str, Any]:
        """Return KID with its interval."""
        from components.core.content import derive_seed
        from components.evaluation import metrics

        estimate = metrics.kid_with_interval(
            self._distribution([picture.path for picture in pictures]), self._distribution(reference), _groups(pictures),
            self._bootstrap("kid"), subset_size=self.settings.kid_subset_size, subsets=self.settings.kid_subsets,
            seed=derive_seed(self.world.config.seed, "kid subsets"),
        )  # fmt: skip
        return vars(estimate)

    def fid(self, pictures: list[Picture]) -> dict[str, Any]:
        """Return FID with its interval."""
        from components.evaluation import metrics

        drawn, wanted = self._distribution([picture.path for picture in pictures]), self._distribution(self.world.reference)
        return vars(metrics.fid_with_interval(drawn, wanted, _groups(pictures), self._bootstrap("fid")))

    def clip_t(self, pictures: list[Picture]) -> dict[str, Any]:
        """Return CLIP-T with its interval."""
        from components.evaluation import metrics

        texts = self.encoder.encode_texts([picture.prompt for picture in pictures])
        values = metrics.clip_t_values(self._encode(self.encoder, [picture.path for picture in pictures]), texts)
        return vars(metrics.mean_with_interval(values, _groups(pictures), self._bootstrap("clip_t")))

    def clip_i(self, pictures: list[Picture]) -> dict[str, Any]:
        """Return CLIP-I with its interval."""
        from components.evaluation import metrics

        drawn = self._encode(self.encoder, [picture.path for picture in pictures])
        values = metrics.clip_i_values(drawn, self._encode(self.encoder, self.world.reference))
        return vars(metrics.mean_with_interval(values, _groups(pictures), self._bootstrap("clip_i")))

    def _distribution(self, paths: list[Path]) -> Features:
        import numpy as np

        if self.inception is not None:
            return self._encode(self.inception, paths)
        vectors = self._encode(self.encoder, paths)
        return vectors * np.float32(np.sqrt(vectors.shape[1]))

    def _encode(self, extractor: Extractor, paths: list[Path]) -> Features:
        from components.core.images import load_rgb

        return extractor.encode_images([load_rgb(path) for path in paths])

    def _bootstrap(self, purpose: str) -> Bootstrap:
        from components.core.content import derive_seed
        from components.evaluation.metrics import Bootstrap

        return Bootstrap(self.settings.bootstrap, self.settings.confidence, derive_seed(self.world.config.seed, "bootstrap", purpose))


def _groups(pictures: list[Picture]) -> list[str]:
    return [picture.prompt_id for picture in pictures]
