"""Images to ``scores``: one pass feeds every extractor, then the scores of ``components/core/metrics.py``, beside the base's."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from components.core.config import ScoringSection
from components.core.content import derive_seed, digest_value
from components.core.errors import InputError
from components.core.images import decode_rgb
from components.core.metrics import SCORES
from components.evaluation import metrics
from components.evaluation.extractors.base import Extractor, Features
from components.evaluation.features import Extractors, FeatureCache, encode_texts_cached
from components.evaluation.pictures import Picture, digest_pictures, read_pictures, reading_order
from components.evaluation.replicates import PictureValues

log = logging.getLogger(__name__)

SCORES_SCHEMA = 1


@dataclass(frozen=True)
class FeatureTable:
    """Features of every picture to score, an array an extractor, and the pictures' content hashes."""

    hashes: dict[Path, str]
    vectors: dict[str, dict[str, Features]]

    def of(self, extractor: Extractor, paths: Iterable[Path]) -> Features:
        """(N, d) features of N pictures, in their order."""
        return np.stack([self.vectors[extractor.id][self.hashes[path]] for path in paths])


def score(
    folders: Mapping[str, Path], reference: Sequence[Path], settings: ScoringSection, seed: int, tokens: Sequence[str], *,
    reference_kind: str = "held-out", extractors: Extractors | None = None,
) -> tuple[dict[str, Any], Scorer, dict[str, list[Picture]]]:  # fmt: skip
    """Score a style model's pictures beside its base's.

    Args:
        folders: ``style``, drawn with the rare tokens; ``base``, the base's of the same prompts; and for drift ``plain``, the style
            model's without the tokens.
        seed: the run's; subsets and resamples have streams of their own.
        tokens: bound to the style; CLIP-T is scored against prompts without them.
        reference_kind: ``style_ref`` when no reference is held out and the training pictures stand in.

    Returns:
        ``style``, ``base`` (kid, fid, clip_t, clip_i: value, low, high, n each), ``drift``, ``by_category``, ``context``, ``digests``.
        KID in natural units, FID in squared feature units, CLIP scores 0–100. Then the scorer that knows all features, and the pictures
        of each folder.
    """
    extractors = extractors or Extractors.load(settings)
    if len(reference) < 2:
        expected = "at least two pictures of the style"
        raise InputError("scoring: reference", f"{len(reference)} picture(s)", expected=expected, remedy="set style.reference")
    sets = {name: read_pictures(folder) for name, folder in folders.items()}
    table = extract(scored_paths(sets.values(), reference), extractors.all, settings.batch_size)
    scorer = Scorer(extractors, table, list(reference), settings, seed, tokens)
    digests = {name: digest_pictures(table.hashes, [p.path for p in pictures]) for name, pictures in sets.items()}
    scores = {
        "schema": SCORES_SCHEMA,
        "style": scorer.scores(sets["style"]),
        "base": scorer.scores(sets["base"]),
        "drift": scorer.drift(sets["plain"], sets["base"]) if "plain" in sets else None,
        "by_category": scorer.by_category(sets["style"], sets["base"]),
        "context": scorer.context(reference_kind, {name: len(pictures) for name, pictures in sets.items()})
        | {"prompts_cut": scorer.count_cut_prompts(sets["style"])},
        "digests": digests | {"reference": digest_value(sorted(table.hashes[path] for path in reference))},
    }
    return scores, scorer, sets


def scored_paths(sets: Iterable[Iterable[Picture]], reference: Sequence[Path]) -> list[Path]:
    """The files that scores are made of, each once, in the order in which their features are extracted."""
    return list(dict.fromkeys([*(picture.path for pictures in sets for picture in pictures), *reference]))


def extract(paths: Sequence[Path], extractors: Sequence[Extractor], batch_size: int) -> FeatureTable:
    """Features by every extractor: each file is read once, and decoded once if any extractor has not seen its content."""
    caches = {extractor.id: FeatureCache(extractor.id) for extractor in extractors}
    table = FeatureTable({}, {extractor.id: {} for extractor in extractors})
    unique = list(dict.fromkeys(paths))
    # Reading and decoding release the interpreter's lock, so two threads keep the network fed.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for start in range(0, len(unique), batch_size):
            batch = unique[start : start + batch_size]
            contents = list(pool.map(Path.read_bytes, batch))
            hashes = [hashlib.sha256(content).hexdigest() for content in contents]
            table.hashes.update(zip(batch, hashes, strict=True))
            missing = {extractor.id: _missing(hashes, caches[extractor.id], table.vectors[extractor.id]) for extractor in extractors}
            places = sorted({hashes.index(hash_) for keys in missing.values() for hash_ in keys})
            decoded = pool.map(lambda i, c=contents, b=batch: decode_rgb(c[i], str(b[i])), places)
            images: dict[str, Image] = {hashes[place]: image for place, image in zip(places, decoded, strict=True)}
            for extractor in extractors:
                if keys := missing[extractor.id]:
                    fresh = dict(zip(keys, extractor.encode_images([images[key] for key in keys]), strict=True))
                    caches[extractor.id].put(fresh)
                    table.vectors[extractor.id].update(fresh)
    return table


def _missing(hashes: list[str], cache: FeatureCache, known: dict[str, Features]) -> list[str]:
    """Hashes that neither this pass nor the cache knows; what the cache knows goes into ``known``."""
    unknown = [hash_ for hash_ in dict.fromkeys(hashes) if hash_ not in known]
    known.update(cache.get(unknown))
    return [hash_ for hash_ in unknown if hash_ not in known]


def without_tokens(prompt: str, tokens: Sequence[str]) -> str:
    """The prompt without rare identifier tokens, in case a user's bank wrote them in: no extractor knows such a word."""
    for token in tokens:
        prompt = re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", " ", prompt)
    return re.sub(r"\s+([,.;])", r"\1", " ".join(prompt.split())).strip(" ,")


class Scorer:
    """Scores of sets of pictures whose features, and the reference's, are already in the table. Arguments as :func:`score`."""

    def __init__(
        self, extractors: Extractors, table: FeatureTable, reference: list[Path], settings: ScoringSection, seed: int, tokens: Sequence[str]
    ) -> None:
        self.extractors, self.table, self.reference, self.settings = extractors, table, reference, settings
        self.seed, self.tokens = seed, list(tokens)
        self.clip = extractors.clip
        self._texts = FeatureCache(self.clip.id)

    def scores(self, pictures: list[Picture]) -> dict[str, Any]:
        """All scores of a set, each with value, low, high and n."""
        return {name: self.one(name, pictures) for name in SCORES}

    def one(self, name: str, pictures: list[Picture]) -> dict[str, Any]:
        """One score of a set."""
        if name in DISTANCES:
            return DISTANCES[name](self, pictures, self.reference)
        return vars(metrics.mean_with_interval(MEANS[name](self, pictures), _groups(pictures), self._bootstrap(name)))

    def values(self, pictures: list[Picture]) -> PictureValues:
        """The values of a set's pictures one by one."""
        means = {name: values(self, pictures) for name, values in MEANS.items()}
        features = self.distribution_features(p.path for p in pictures)
        return PictureValues(_groups(pictures), {**means, "features": features, "reference": self.distribution_features(self.reference)})

    def _bootstrap(self, purpose: str) -> metrics.Bootstrap:
        return metrics.Bootstrap(self.settings.bootstrap, self.settings.confidence, derive_seed(self.seed, "bootstrap", purpose))

    def distribution_features(self, paths: Iterable[Path]) -> Features:
        """Features for FID and KID: Inception's, or CLIP's embedding scaled to norm √d.

        With that norm the kernel (x·y/d + 1)³ is (cos + 1)³; with unit norm it would be all but linear and see means only.
        """
        vectors = self.table.of(self.extractors.distribution, paths)
        return vectors if self.extractors.inception else vectors * np.float32(np.sqrt(vectors.shape[1]))

    def _two_sets(self, pictures: list[Picture], reference: list[Path]) -> tuple[Features, Features, list[str]]:
        return self.distribution_features(p.path for p in pictures), self.distribution_features(reference), _groups(pictures)

    def kid(self, pictures: list[Picture], reference: list[Path]) -> dict[str, Any]:
        """KID to a reference."""
        estimate = metrics.kid_with_interval(
            *self._two_sets(pictures, reference), self._bootstrap("kid"), subset_size=self.settings.kid_subset_size,
            subsets=self.settings.kid_subsets, seed=derive_seed(self.seed, "kid subsets"),
        )  # fmt: skip
        return vars(estimate)

    def fid(self, pictures: list[Picture], reference: list[Path]) -> dict[str, Any]:
        """FID to a reference."""
        return vars(metrics.fid_with_interval(*self._two_sets(pictures, reference), self._bootstrap("fid")))

    def clip_t(self, pictures: list[Picture]) -> metrics.Array:
        """(N,) CLIP-T of each picture."""
        texts = [without_tokens(picture.prompt, self.tokens) for picture in pictures]
        known = encode_texts_cached(self.clip, texts, self._texts)
        return metrics.clip_t_values(self.table.of(self.clip, (p.path for p in pictures)), np.stack([known[text] for text in texts]))

    def clip_i(self, pictures: list[Picture]) -> metrics.Array:
        """(N,) CLIP-I of each picture."""
        return metrics.clip_i_values(self.table.of(self.clip, (p.path for p in pictures)), self.table.of(self.clip, self.reference))

    def count_cut_prompts(self, pictures: list[Picture]) -> int:
        """Number of prompts that the text encoder cannot read to their end; the first is named in the log."""
        cut = self.clip.too_long(list(dict.fromkeys(without_tokens(picture.prompt, self.tokens) for picture in pictures)))
        if cut:
            limit = self.clip.max_tokens
            log.warning("CLIP-T reads only the first %d tokens; %d prompt(s) are longer, as %r", limit, len(cut), cut[0])
        return len(cut)

    def drift(self, plain: list[Picture], base: list[Picture]) -> dict[str, Any]:
        """How far the model moved on prompts without its tokens, against the base."""
        found = {f"{name}{end}": self.one(name, pictures) for name in MEANS for end, pictures in (("", plain), ("_base", base))}
        return found | {"kid_to_base": self.kid(plain, [picture.path for picture in base])}

    def by_category(self, style: list[Picture], base: list[Picture]) -> dict[str, Any]:
        """The scores that are means over pictures, of the pictures of each category."""
        found: dict[str, Any] = {}
        for category in sorted({picture.category for picture in style}, key=reading_order):
            ours, theirs = ([p for p in pictures if p.category == category] for pictures in (style, base))
            found[category] = {name: self.one(name, ours) for name in MEANS}
            if theirs:
                found[category] |= {f"{name}_base": self.one(name, theirs) for name in MEANS}
        return found

    def context(self, reference_kind: str, counts: dict[str, int]) -> dict[str, Any]:
        """Everything without which two scores must not be compared."""
        settings, clip, distribution = self.settings, self.clip, self.extractors.distribution
        dimension = int(self.distribution_features(self.reference[:1]).shape[1])
        return {
            "extractor": clip.name,
            "extractor_id": clip.id,
            "fid_kid_features": distribution.name if self.extractors.inception else f"{clip.name} CLIP image embedding, norm √d",
            "fid_kid_id": distribution.id,
            "dimension": dimension,
            "versions": versions(),
            "resize": clip.resize,
            "fid_kid_resize": distribution.resize,
            "picture_format": "PNG, 8-bit RGB",
            "kid_subset_size": min(settings.kid_subset_size, counts["style"], len(self.reference)),
            "kid_subsets": settings.kid_subsets,
            "kid_kernel": "(x·y/d + 1)^3, unbiased",
            "seed": self.seed,
            "bootstrap": settings.bootstrap,
            "bootstrap_unit": "prompt",
            "fid_bootstrap": metrics.fid_resamples(settings.bootstrap, min(dimension, max(counts["style"], len(self.reference)))),
            "confidence": settings.confidence,
            "reference": reference_kind,
            "reference_n": len(self.reference),
            "pictures": counts,
        }


DISTANCES: dict[str, Callable[[Scorer, list[Picture], list[Path]], dict[str, Any]]] = {"kid": Scorer.kid, "fid": Scorer.fid}
"""Scores of a whole set, with their intervals."""
MEANS: dict[str, Callable[[Scorer, list[Picture]], metrics.Array]] = {"clip_t": Scorer.clip_t, "clip_i": Scorer.clip_i}
"""Scores that are means of values of single pictures, as (N,) values."""


def _groups(pictures: list[Picture]) -> list[str]:
    return [picture.prompt_id for picture in pictures]


def versions() -> dict[str, str]:
    """Versions of what the scores depend on, by distribution name."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("styleforge", "torch", "transformers", "numpy", "scipy", "pillow", "torch-fidelity"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
