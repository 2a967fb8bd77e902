"""Pictures to ``scores``: one pass feeds every extractor, then FID, KID, CLIP-T, CLIP-I and drift, beside the base's."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.core.config import ScoringSection
from components.core.content import derive_seed, digest_value
from components.core.errors import InputError
from components.core.images import decode_rgb
from components.evaluation import metrics
from components.evaluation.features import Extractor, FeatureCache, Features, InceptionExtractor, Towers, encode_texts_cached
from components.evaluation.pictures import Picture, digest_pictures, read_pictures, reading_order

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

SCORES_SCHEMA = 1


@dataclass(frozen=True)
class FeatureTable:
    """Features of every picture that was asked for, an array an extractor, and the pictures' content hashes."""

    hashes: dict[Path, str]
    vectors: dict[str, dict[str, Features]]

    def of(self, extractor: Extractor, paths: Iterable[Path]) -> Features:
        """(N, d) features of N pictures, in their order."""
        return np.stack([self.vectors[extractor.id][self.hashes[path]] for path in paths])


def score(
    style_pictures: Path,
    base_pictures: Path,
    plain_pictures: Path | None,
    base_plain_pictures: Path | None,
    reference: Sequence[Path],
    settings: ScoringSection,
    seed: int,
    identifier: str | Sequence[str],
    *,
    reference_kind: str = "held-out",
    towers: Towers | None = None,
) -> dict[str, Any]:
    """Score a style model's pictures beside its base's.

    Args:
        style_pictures: folder of the style model's pictures, drawn with the rare token.
        base_pictures: folder of the base model's pictures of the same prompts: the zero line.
        plain_pictures: folder of the style model's pictures drawn without the rare token, for drift; None leaves drift out.
        base_plain_pictures: the base's pictures to hold against those; default: ``base_pictures``.
        reference: pictures of the style that FID, KID and CLIP-I are measured to.
        settings: extractor, KID subsets, bootstrap.
        seed: the run's seed; subsets and resamples have streams of their own.
        identifier: the rare token or tokens; CLIP-T is scored against prompts without them.
        reference_kind: ``held-out``, or ``style_ref`` when no reference is held out and the training pictures stand in.
        towers: an extractor that is already loaded; default: made from ``settings``.

    Returns:
        ``style``, ``base`` (kid, fid, clip_t, clip_i: value, low, high, n each), ``drift``, ``by_category``, ``context``, ``digests``.
        KID in natural units, FID in squared feature units, CLIP scores 0–100.

    Raises:
        InputError: no reference, too few pictures, unreadable pictures, or an extractor that cannot be loaded.
    """
    if len(reference) < 2:
        raise InputError(
            "scoring: reference",
            f"{len(reference)} picture(s)",
            expected="at least two pictures of the style",
            remedy="set style.reference",
        )
    towers = towers or Towers(settings.extractor, settings.extractor_revision, batch_size=settings.batch_size)
    inception = InceptionExtractor(settings.inception_weights, batch_size=settings.batch_size) if settings.inception_weights else None
    folders = {"style": style_pictures, "base": base_pictures, "plain": plain_pictures, "base_plain": base_plain_pictures}
    sets = {name: read_pictures(folder) for name, folder in folders.items() if folder is not None}
    table = extract(scored_paths(sets.values(), reference), [towers, *([inception] if inception else [])], settings.batch_size)
    scorer = _Scorer(towers, inception, table, list(reference), settings, seed, _tokens(identifier))

    drift_base = sets.get("base_plain", sets["base"])
    scores: dict[str, Any] = {
        "schema": SCORES_SCHEMA,
        "style": scorer.all_four(sets["style"]),
        "base": scorer.all_four(sets["base"]),
        "drift": scorer.drift(sets["plain"], drift_base) if "plain" in sets else None,
        "by_category": scorer.by_category(sets["style"], sets["base"]),
        "context": scorer.context(reference_kind, {name: len(pictures) for name, pictures in sets.items()})
        | {"prompts_cut": scorer.count_cut_prompts(sets["style"])},
        "digests": {name: digest_pictures(table.hashes, [p.path for p in pictures]) for name, pictures in sets.items()},
    }
    scores["digests"]["reference"] = digest_value(sorted(table.hashes[path] for path in reference))
    return scores


def scored_paths(sets: Iterable[Iterable[Picture]], reference: Sequence[Path]) -> list[Path]:
    """The files that scores are made of, each once, in the order in which their features are extracted."""
    return list(dict.fromkeys([*(picture.path for pictures in sets for picture in pictures), *reference]))


@dataclass(frozen=True)
class PictureValues:
    """What a paired comparison needs of N pictures of one model: their prompts, scores and features, and the reference's features.

    ``clip_t`` and ``clip_i`` are (N,), ``features`` (N, d) and ``reference`` (M, d), as FID and KID see them.
    """

    prompts: list[str]
    clip_t: metrics.Array
    clip_i: metrics.Array
    features: Features
    reference: Features


def picture_values(
    pictures: Path, reference: Sequence[Path], settings: ScoringSection, identifier: str | Sequence[str], *, towers: Towers | None = None
) -> PictureValues:
    """Values of every picture, by the extractors of :func:`score`; what that has seen comes from its cache.

    Args:
        pictures: folder of a model's pictures.
        reference: pictures of the style.
        settings: the scoring section.
        identifier: the rare token or tokens.
        towers: an extractor that is already loaded; default: made from ``settings``.

    Raises:
        InputError: unreadable pictures, or an extractor that cannot be loaded.
    """
    towers = towers or Towers(settings.extractor, settings.extractor_revision, batch_size=settings.batch_size)
    inception = InceptionExtractor(settings.inception_weights, batch_size=settings.batch_size) if settings.inception_weights else None
    drawn = read_pictures(pictures)
    table = extract([p.path for p in drawn] + list(reference), [towers, *([inception] if inception else [])], settings.batch_size)
    return _values(_Scorer(towers, inception, table, list(reference), settings, 0, _tokens(identifier)), drawn)


def _values(scorer: _Scorer, drawn: list[Picture]) -> PictureValues:
    return PictureValues(
        _groups(drawn), scorer.clip_t_values(drawn), scorer.clip_i_values(drawn),
        scorer.distribution_features(p.path for p in drawn), scorer.distribution_features(scorer.reference),
    )  # fmt: skip


def score_one(
    pictures: Sequence[Picture], table: FeatureTable, reference: Sequence[Path], settings: ScoringSection, seed: int,
    identifier: str | Sequence[str], *, towers: Towers, inception: InceptionExtractor | None, reference_kind: str,
) -> tuple[dict[str, Any], PictureValues]:  # fmt: skip
    """Scores of one set of pictures, whose features and the reference's are in ``table``, and their values one by one.

    The scores are ``style`` and ``context`` as in :func:`score`.
    """
    scorer = _Scorer(towers, inception, table, list(reference), settings, seed, _tokens(identifier))
    scores = {"style": scorer.all_four(list(pictures)), "context": scorer.context(reference_kind, {"style": len(pictures)})}
    return scores, _values(scorer, list(pictures))


def extract(paths: Sequence[Path], extractors: Sequence[Extractor], batch_size: int) -> FeatureTable:
    """Features of pictures by every extractor: each file is read once, and decoded once if any extractor has not seen its content.

    Args:
        paths: picture files; repeats cost nothing.
        extractors: callables of features; each has its own cache.
        batch_size: pictures in memory at once.

    Raises:
        InputError: a file is not a readable picture.
    """
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
            missing = _missing(hashes, extractors, caches, table)
            wanted = sorted({hash_ for keys in missing.values() for hash_ in keys})
            places = [hashes.index(hash_) for hash_ in wanted]
            images = dict(zip(wanted, pool.map(lambda i, c=contents, b=batch: decode_rgb(c[i], str(b[i])), places), strict=True))
            _encode_missing(missing, images, extractors, caches, table)
    return table


def _missing(
    hashes: list[str], extractors: Sequence[Extractor], caches: dict[str, FeatureCache], table: FeatureTable
) -> dict[str, list[str]]:
    """Per extractor, the hashes that neither this pass nor the cache knows; known ones go into the table."""
    missing = {}
    for extractor in extractors:
        known = table.vectors[extractor.id]
        ask = [hash_ for hash_ in dict.fromkeys(hashes) if hash_ not in known]
        known.update(caches[extractor.id].get(ask))
        missing[extractor.id] = [hash_ for hash_ in ask if hash_ not in known]
    return missing


def _encode_missing(
    missing: dict[str, list[str]],
    images: dict[str, Image],
    extractors: Sequence[Extractor],
    caches: dict[str, FeatureCache],
    table: FeatureTable,
) -> None:
    for extractor in extractors:
        keys = missing[extractor.id]
        if not keys:
            continue
        fresh = dict(zip(keys, extractor.encode_images([images[key] for key in keys]), strict=True))
        caches[extractor.id].put(fresh)
        table.vectors[extractor.id].update(fresh)


def _tokens(identifier: str | Sequence[str]) -> list[str]:
    return [identifier] if isinstance(identifier, str) else list(identifier)


def without_tokens(prompt: str, tokens: Sequence[str]) -> str:
    """The prompt without rare identifier tokens, in case a user's bank wrote them in: no extractor knows such a word."""
    for token in tokens:
        prompt = re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", " ", prompt)
    return re.sub(r"\s+([,.;])", r"\1", " ".join(prompt.split())).strip(" ,")


class _Scorer:
    """Scores of sets of pictures whose features are already in the table."""

    def __init__(
        self,
        towers: Towers,
        inception: InceptionExtractor | None,
        table: FeatureTable,
        reference: list[Path],
        settings: ScoringSection,
        seed: int,
        tokens: list[str],
    ) -> None:
        self.towers, self.inception, self.table, self.settings, self.seed, self.tokens = towers, inception, table, settings, seed, tokens
        self.reference = reference
        self.texts = FeatureCache(towers.id)

    def bootstrap(self, purpose: str) -> metrics.Bootstrap:
        return metrics.Bootstrap(self.settings.bootstrap, self.settings.confidence, derive_seed(self.seed, "bootstrap", purpose))

    def distribution_features(self, paths: Iterable[Path]) -> Features:
        """Features for FID and KID: Inception's, or CLIP's embedding scaled to norm √d.

        With that norm the kernel (x·y/d + 1)³ is (cos + 1)³; with unit norm it would be all but linear and see means only.
        """
        if self.inception is not None:
            return self.table.of(self.inception, paths)
        vectors = self.table.of(self.towers, paths)
        return vectors * np.float32(np.sqrt(vectors.shape[1]))

    def kid(self, pictures: list[Picture], reference: list[Path]) -> dict[str, Any]:
        return metrics.kid_with_interval(
            self.distribution_features(p.path for p in pictures),
            self.distribution_features(reference),
            _groups(pictures),
            self.bootstrap("kid"),
            subset_size=self.settings.kid_subset_size,
            subsets=self.settings.kid_subsets,
            seed=derive_seed(self.seed, "kid subsets"),
        ).as_dict()

    def fid(self, pictures: list[Picture]) -> dict[str, Any]:
        features = self.distribution_features(p.path for p in pictures)
        reference = self.distribution_features(self.reference)
        return metrics.fid_with_interval(features, reference, _groups(pictures), self.bootstrap("fid")).as_dict()

    def clip_t_values(self, pictures: list[Picture]) -> metrics.Array:
        texts = [without_tokens(picture.prompt, self.tokens) for picture in pictures]
        known = encode_texts_cached(self.towers, texts, self.texts)
        images = self.table.of(self.towers, (p.path for p in pictures))
        return metrics.clip_t_values(images, np.stack([known[text] for text in texts]))

    def clip_i_values(self, pictures: list[Picture]) -> metrics.Array:
        return metrics.clip_i_values(self.table.of(self.towers, (p.path for p in pictures)), self.table.of(self.towers, self.reference))

    def clip_t(self, pictures: list[Picture]) -> dict[str, Any]:
        return metrics.mean_with_interval(self.clip_t_values(pictures), _groups(pictures), self.bootstrap("clip_t")).as_dict()

    def clip_i(self, pictures: list[Picture]) -> dict[str, Any]:
        return metrics.mean_with_interval(self.clip_i_values(pictures), _groups(pictures), self.bootstrap("clip_i")).as_dict()

    def all_four(self, pictures: list[Picture]) -> dict[str, Any]:
        kid, fid = self.kid(pictures, self.reference), self.fid(pictures)
        return {"kid": kid, "fid": fid, "clip_t": self.clip_t(pictures), "clip_i": self.clip_i(pictures)}

    def count_cut_prompts(self, pictures: list[Picture]) -> int:
        """Number of prompts that the text tower cannot read to their end; the first is named in the log."""
        cut = self.towers.too_long(list(dict.fromkeys(without_tokens(picture.prompt, self.tokens) for picture in pictures)))
        if cut:
            limit = self.towers.max_tokens
            log.warning("CLIP-T reads only the first %d tokens; %d prompt(s) are longer, as %r", limit, len(cut), cut[0])
        return len(cut)

    def drift(self, plain: list[Picture], base: list[Picture]) -> dict[str, Any]:
        """How far the model moved where nothing was asked of it: style-free prompts, against the base."""
        return {
            "clip_t": self.clip_t(plain),
            "clip_t_base": self.clip_t(base),
            "clip_i": self.clip_i(plain),
            "clip_i_base": self.clip_i(base),
            "kid_to_base": self.kid(plain, [picture.path for picture in base]),
        }

    def by_category(self, style: list[Picture], base: list[Picture]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for category in sorted({picture.category for picture in style}, key=reading_order):
            ours, theirs = ([p for p in pictures if p.category == category] for pictures in (style, base))
            found[category] = {"clip_t": self.clip_t(ours), "clip_i": self.clip_i(ours)}
            if theirs:
                found[category] |= {"clip_t_base": self.clip_t(theirs), "clip_i_base": self.clip_i(theirs)}
        return found

    def context(self, reference_kind: str, counts: dict[str, int]) -> dict[str, Any]:
        """Everything without which two scores must not be compared."""
        settings = self.settings
        distribution = self.inception or self.towers
        sample = self.distribution_features(self.reference[:1])
        return {
            "extractor": self.towers.name,
            "extractor_id": self.towers.id,
            "fid_kid_features": self.inception.name if self.inception else f"{self.towers.name} CLIP image embedding, norm √d",
            "fid_kid_id": distribution.id,
            "dimension": int(sample.shape[1]),
            "versions": versions(),
            "resize": self.towers.resize,
            "fid_kid_resize": distribution.resize,
            "picture_format": "PNG, 8-bit RGB",
            "kid_subset_size": min(settings.kid_subset_size, counts["style"], len(self.reference)),
            "kid_subsets": settings.kid_subsets,
            "kid_kernel": "(x·y/d + 1)^3, unbiased",
            "seed": self.seed,
            "bootstrap": settings.bootstrap,
            "bootstrap_unit": "prompt",
            "fid_bootstrap": metrics.fid_resamples(settings.bootstrap, min(sample.shape[1], max(counts["style"], len(self.reference)))),
            "confidence": settings.confidence,
            "reference": reference_kind,
            "reference_n": len(self.reference),
            "pictures": counts,
        }


def _groups(pictures: list[Picture]) -> list[str]:
    return [picture.prompt_id for picture in pictures]


def versions() -> dict[str, str]:
    """Versions of what the scores depend on, by distribution name."""
    from importlib.metadata import PackageNotFoundError, version

    names = ("styleforge", "torch", "transformers", "numpy", "scipy", "pillow", "torch-fidelity")
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
