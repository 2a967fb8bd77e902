"""From images to ``scores``: one pass through every extractor, then the scores of ``components/core/metrics.py``, beside the base's."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from components.core.config import ScoringSection
from components.core.content import derive_seed, digest_value
from components.core.errors import InputError
from components.core.images import load_rgb
from components.core.metrics import SCORES
from components.evaluation import metrics, truth
from components.evaluation.extraction import FeatureTable, extract, scored_paths
from components.evaluation.extractors.base import Features
from components.evaluation.features import Extractors, FeatureCache, encode_texts_cached
from components.evaluation.paired import add_truth
from components.evaluation.pictures import Picture, digest_pictures, read_pictures, reading_order
from components.evaluation.replicates import PictureValues
from components.evaluation.yardstick import StyleRef, Yardstick, check_apart, variants

log = logging.getLogger(__name__)

SCORES_SCHEMA = 1
NO_STYLE_REF = StyleRef()
NO_CONCEPTS = truth.Concepts()
NEAREST = 6
"""Number of drawn pictures that are kept, each with its nearest StyleRef picture, for visual inspection."""


def score(
    folders: Mapping[str, Path], reference: Sequence[Path], settings: ScoringSection, seed: int, tokens: Sequence[str], *,
    reference_kind: str = "held-out", style_ref: StyleRef = NO_STYLE_REF, concepts: truth.Concepts = NO_CONCEPTS,
    extractors: Extractors | None = None,
) -> tuple[dict[str, Any], Scorer, dict[str, list[Picture]]]:  # fmt: skip
    """Score a style model's pictures beside its base's.

    Args:
        folders: ``style``, pictures drawn with the rare tokens; ``base``, the base's pictures of the same prompts; and for drift
            ``plain``, the style model's pictures drawn without the tokens.
        seed: the run's seed; subsets and resamples derive their own random streams from it.
        tokens: the rare tokens bound to the style; CLIP-T compares pictures with prompts without them.
        reference_kind: ``style_ref`` when no reference is held out and the training pictures stand in.
        style_ref: the training pictures; without them no measure of :class:`Yardstick` is made.
        concepts: what the pictures of a held-out reference, of StyleRef and of other artists show, for the measure ``truth``.

    Returns:
        The scores, the scorer, which holds all features, and the pictures of each folder. Scores are ``style`` and ``base`` (kid, fid,
        clip_t, clip_i and the measures, each with value, low, high and n), ``drift``, ``by_category``, ``measures`` (the held-out
        reference's own values, the pictures nearest to StyleRef, notes on what was not measured), ``context`` and ``digests``. KID is in
        natural units, FID in squared feature units; CLIP scores run from 0 to 100.

    Raises:
        InputError: there are fewer than two reference pictures, or StyleRef pictures among them.
    """
    extractors = extractors or Extractors.load(settings)
    if len(reference) < 2:
        expected = "at least two images of the style"
        raise InputError("scoring: reference", f"{len(reference)} image(s)", expected=expected, remedy="set style.reference")
    sets = {name: read_pictures(folder) for name, folder in folders.items()}
    table = extract(scored_paths(sets.values(), reference), extractors.all, settings.batch_size)
    held_out = reference if reference_kind == "held-out" else []
    base = [picture.path for picture in sets["base"]]
    yardstick, own = build_yardstick(style_ref, held_out, base, settings, extractors, table)
    if "truth" in settings.measures:
        prompts = {picture.prompt_id: without_tokens(picture.prompt, tokens) for picture in sets["style"]}
        add_truth(yardstick, prompts, concepts if held_out else NO_CONCEPTS, reference, base, extractors, table, settings.batch_size)
    scorer = Scorer(extractors, table, list(reference), settings, seed, tokens, yardstick)
    measures = {
        "reference": scorer.of_reference() if held_out else {}, "notes": yardstick.notes,
        "nearest": scorer.nearest(sets["style"]), "copy_limit": yardstick.copy_limit if yardstick.has("copies") else None,
        **(scorer.beside_truth(sets["style"]) if yardstick.has("truth") else {}),
    }  # fmt: skip
    digests = {name: digest_pictures(table.hashes, [p.path for p in pictures]) for name, pictures in sets.items()}
    scores = {
        "schema": SCORES_SCHEMA,
        "style": scorer.scores(sets["style"]),
        "base": scorer.scores(sets["base"]),
        "drift": scorer.drift(sets["plain"], sets["base"], sets["style"]) if "plain" in sets else None,
        "by_category": scorer.by_category(sets["style"], sets["base"]),
        **({"measures": measures} if settings.measures else {}),
        "context": scorer.context(reference_kind, {name: len(pictures) for name, pictures in sets.items()})
        | {"prompts_cut": scorer.count_cut_prompts(sets["style"])},
        "digests": digests | {"reference": digest_value(sorted(table.hashes[path] for path in reference)), **own},
    }
    return scores, scorer, sets


def build_yardstick(
    style_ref: StyleRef, reference: Sequence[Path], base: Sequence[Path], settings: ScoringSection, extractors: Extractors,
    table: FeatureTable,
) -> tuple[Yardstick, dict[str, str]]:  # fmt: skip
    """Build the yardstick for drawn pictures, and StyleRef's digest.

    ``table`` must hold the features of ``base`` and of ``reference``, which is the held-out one or empty.
    """
    yardstick = Yardstick({})
    if not style_ref.paths or not settings.measures:
        return yardstick, {}
    asked, used = settings.measures, extractors.measures
    own = extract(style_ref.paths, [used["style_extractor"]] if "style_score" in asked else [], settings.batch_size)
    check_apart({path: own.hashes[path] for path in style_ref.paths}, {path: table.hashes[path] for path in reference})
    if "style_score" in asked:
        style = used["style_extractor"]
        held_out = table.of(style, reference) if reference else None
        yardstick.add_style(table.of(style, base), own.of(style, style_ref.paths), held_out)
    if "copies" in asked:
        rows = [used["copy_extractor"].encode_images(variants(load_rgb(path))) for path in style_ref.paths]
        yardstick.add_copies(np.stack(rows))
    if "leakage" in asked:
        captions = [caption for caption in style_ref.captions if caption]
        yardstick.add_captions(extractors.clip.encode_texts(captions))
    return yardstick, {"style_ref": digest_value(sorted(own.hashes.values()))}


def without_tokens(prompt: str, tokens: Sequence[str]) -> str:
    """Remove rare identifier tokens from a prompt, in case a user's bank contains them: no extractor knows such words."""
    for token in tokens:
        prompt = re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", " ", prompt)
    return re.sub(r"\s+([,.;])", r"\1", " ".join(prompt.split())).strip(" ,")


class Scorer:
    """Scores sets of pictures whose features, like the reference's, are already in ``table``. Other arguments as for :func:`score`."""

    def __init__(
        self, extractors: Extractors, table: FeatureTable, reference: list[Path], settings: ScoringSection, seed: int,
        tokens: Sequence[str], yardstick: Yardstick | None = None,
    ) -> None:  # fmt: skip
        self.extractors, self.table, self.reference, self.settings = extractors, table, reference, settings
        self.seed, self.tokens, self.yardstick = seed, list(tokens), yardstick or Yardstick({})
        self.clip = extractors.clip
        self._texts = FeatureCache(self.clip.id)

    def scores(self, pictures: list[Picture]) -> dict[str, Any]:
        """All scores of a set, each with value, low, high and n."""
        return {name: self.one(name, pictures) for name in SCORES if name in MEANS or name in DISTANCES or self.measured(name)}

    def measured(self, name: str) -> bool:
        """Whether an optional measure was asked for and can be made."""
        if name in KEPT or name in truth.MEASURES:
            return self.yardstick.has(name)
        return name in self.settings.measures or (name == "kd" and "kd_extractor" in self.extractors.measures)

    @property
    def means(self) -> list[str]:
        """The scores of this run that are means over pictures."""
        return [*MEANS, *(name for name in KEPT if self.yardstick.has(name))]

    def one(self, name: str, pictures: list[Picture]) -> dict[str, Any]:
        """One score of a set."""
        if name in DISTANCES:
            return DISTANCES[name](self, pictures, self.reference)
        if name in SETS:
            return vars(SETS[name](self, pictures, self._measure_bootstrap(name)))
        if name in MEANS:
            return vars(metrics.mean_with_interval(self.mean_values(name, pictures), _groups(pictures), self._bootstrap(name)))
        return self._measure(name, self.mean_values(name, pictures), _groups(pictures))

    def _measure(self, name: str, values: metrics.Array, groups: list[str] | None, purpose: str = "") -> dict[str, Any]:
        found = vars(metrics.mean_with_interval(values, groups, self._measure_bootstrap(f"{name}{purpose}")))
        if name in ("copies", "leakage"):  # shares of pictures
            found |= {"low": max(found["low"], 0.0), "high": min(found["high"], 100.0)}
        return found

    def mean_values(self, name: str, pictures: list[Picture]) -> metrics.Array:
        """(N,) per-picture values of a score that is their mean."""
        return MEANS[name](self, pictures) if name in MEANS else self.kept_values(name, [picture.path for picture in pictures], pictures)

    def kept_values(self, name: str, paths: Sequence[Path], pictures: list[Picture] | None = None) -> metrics.Array:
        """(N,) per-picture values of one of the yardstick's measures."""
        extractor = self.extractors.measures.get(KEPT[name], self.clip)
        texts = self._own_texts(pictures) if pictures and name == "leakage" else None
        return self.yardstick.values(name, self.table.of(extractor, paths), texts)

    def values(self, pictures: list[Picture]) -> PictureValues:
        """What a paired comparison needs of a set: per-picture scores, and the features for FID and KID."""
        means = {name: self.mean_values(name, pictures) for name in self.means}
        features = self.distribution_features(p.path for p in pictures)
        return PictureValues(_groups(pictures), {**means, "features": features, "reference": self.distribution_features(self.reference)})

    def _bootstrap(self, purpose: str) -> metrics.Bootstrap:
        return metrics.Bootstrap(self.settings.bootstrap, self.settings.confidence, derive_seed(self.seed, "bootstrap", purpose))

    def _measure_bootstrap(self, purpose: str) -> metrics.Bootstrap:
        return replace(self._bootstrap(purpose), small_sample=True)

    def distribution_features(self, paths: Iterable[Path]) -> Features:
        """Features for FID and KID: Inception's, or CLIP's embedding scaled to norm √d.

        With that norm the kernel (x·y/d + 1)³ is (cos + 1)³; with unit norm it would be nearly linear and compare means only.
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
        return metrics.clip_t_values(self.table.of(self.clip, (p.path for p in pictures)), self._own_texts(pictures))

    def _own_texts(self, pictures: list[Picture]) -> Features:
        texts = [without_tokens(picture.prompt, self.tokens) for picture in pictures]
        known = encode_texts_cached(self.clip, texts, self._texts)
        return np.stack([known[text] for text in texts])

    def clip_i(self, pictures: list[Picture]) -> metrics.Array:
        """(N,) CLIP-I of each picture."""
        return metrics.clip_i_values(self.table.of(self.clip, (p.path for p in pictures)), self.table.of(self.clip, self.reference))

    def count_cut_prompts(self, pictures: list[Picture]) -> int:
        """Number of prompts that are too long for the text encoder; the first is named in the log."""
        cut = self.clip.too_long(list(dict.fromkeys(without_tokens(picture.prompt, self.tokens) for picture in pictures)))
        if cut:
            limit = self.clip.max_tokens
            log.warning("CLIP-T reads only the first %d tokens; %d prompt(s) are longer, as %r", limit, len(cut), cut[0])
        return len(cut)

    def kd(self, pictures: list[Picture], bootstrap: metrics.Bootstrap) -> metrics.Estimate:
        """KID to the reference in another extractor's features (Stein et al. 2023, arXiv 2306.04675), scaled to norm √d."""
        extractor = self.extractors.measures["kd_extractor"]
        drawn, reference = (
            metrics.to_unit(np.asarray(self.table.of(extractor, paths), float)) for paths in ([p.path for p in pictures], self.reference)
        )
        scale = np.sqrt(drawn.shape[1])
        return metrics.kid_with_interval(
            scale * drawn, scale * reference, _groups(pictures), bootstrap, subset_size=self.settings.kid_subset_size,
            subsets=self.settings.kid_subsets, seed=derive_seed(self.seed, "kid subsets"),
        )  # fmt: skip

    def cmmd(self, pictures: list[Picture], bootstrap: metrics.Bootstrap) -> metrics.Estimate:
        """CMMD to the reference."""
        drawn, reference = (self.table.of(self.clip, paths) for paths in ([p.path for p in pictures], self.reference))
        return metrics.cmmd_with_interval(drawn, reference, _groups(pictures), bootstrap)

    def diversity(self, pictures: list[Picture], bootstrap: metrics.Bootstrap) -> metrics.Estimate:
        """How much the pictures differ from one another, in the CLIP's features."""
        return metrics.diversity_with_interval(self.table.of(self.clip, (p.path for p in pictures)), _groups(pictures), bootstrap)

    def truth(
        self, pictures: list[Picture], bootstrap: metrics.Bootstrap, name: str = "truth", *, others: bool = False
    ) -> metrics.Estimate:
        """Mean distance to the artist's picture of the prompt's concept, or, with ``others``, to the artist's other pictures.

        Only pictures with a pair count.
        """
        extractor = self.extractors.measures.get(truth.MEASURES[name], self.clip)
        features = self.table.of(extractor, (picture.path for picture in pictures))
        found = self.yardstick.to_the_artist(name, features, _groups(pictures))[others]
        paired = np.isfinite(found)
        groups = [picture.prompt_id for picture, there in zip(pictures, paired, strict=True) if there]
        return metrics.mean_with_interval(found[paired], groups, bootstrap)

    def beside_truth(self, pictures: list[Picture]) -> dict[str, Any]:
        """By measure of truth: ``truth``, to the artist's other pictures; ``other_artists``, those of the concept by others, if any."""
        names = [name for name in truth.MEASURES if self.yardstick.has(name) and len(self.reference) > 1]
        found = {name: vars(self.truth(pictures, self._measure_bootstrap(f"{name} others"), name, others=True)) for name in names}
        theirs = {name: rows for name in truth.MEASURES if (rows := self.yardstick.arrays.get(f"{name}{truth.OTHER_ARTISTS}")) is not None}
        apart = {name: self._measure(name, np.asarray(rows, float), None, " of other artists") for name, rows in theirs.items()}
        return {"truth": found, **({"other_artists": apart} if apart else {})}

    def drift(self, plain: list[Picture], base: list[Picture], style: list[Picture]) -> dict[str, Any]:
        """How far the model has drifted from the base on prompts without its tokens, and how much of the style the tokens add."""
        found = {f"{name}{end}": self.one(name, pictures) for name in self.means for end, pictures in (("", plain), ("_base", base))}
        if self.yardstick.has("style_score"):
            found["binding"] = self._binding(style, plain)
        return found | {"kid_to_base": self.kid(plain, [picture.path for picture in base])}

    def _binding(self, style: list[Picture], plain: list[Picture]) -> dict[str, Any]:
        """Style score with the tokens minus the style score without them, for the same prompts and seeds."""
        without = {(picture.prompt_id, picture.repeat): picture for picture in plain}
        pairs = [(ours, without[key]) for ours in style if (key := (ours.prompt_id, ours.repeat)) in without]
        ours, theirs = (self.mean_values("style_score", list(side)) for side in zip(*pairs, strict=True))
        groups = [picture.prompt_id for picture, _ in pairs]
        return self._measure("binding", ours - theirs, groups)

    def nearest(self, pictures: list[Picture]) -> list[dict[str, Any]]:
        """The pictures nearest to a StyleRef picture, one per prompt, nearest first: file, index in StyleRef, and similarity."""
        if not self.yardstick.has("copies"):
            return []
        features = self.table.of(self.extractors.measures["copy_extractor"], (picture.path for picture in pictures))
        places, near = self.yardstick.nearest(features)
        found: dict[str, dict[str, Any]] = {}
        for index in np.argsort(-near, kind="stable"):
            picture = pictures[index]
            found.setdefault(picture.prompt_id, {
                "file": picture.path.name, "style_ref": int(places[index]), "similarity": float(near[index]),
            })  # fmt: skip
        return list(found.values())[:NEAREST]

    def of_reference(self) -> dict[str, Any]:
        """The held-out reference's own values in the yardstick's measures: the level that real pictures of the style reach."""
        found = {}
        for name in ("style_score", "copies"):
            if self.yardstick.has(name):
                found[name] = self._measure(name, self.kept_values(name, self.reference), None, " of the reference")
        for name in truth.MEASURES:
            if self.yardstick.has(name):
                apart = truth.spread(self.yardstick.arrays[name], self.yardstick.arrays[truth.PAIRS])
                found[name] = self._measure(name, apart, None, " of the reference")
        return found

    def by_category(self, style: list[Picture], base: list[Picture]) -> dict[str, Any]:
        """The scores that are means over pictures, for each category."""
        found: dict[str, Any] = {}
        for category in sorted({picture.category for picture in style}, key=reading_order):
            ours, theirs = ([p for p in pictures if p.category == category] for pictures in (style, base))
            found[category] = {name: self.one(name, ours) for name in self.means}
            if theirs:
                found[category] |= {f"{name}_base": self.one(name, theirs) for name in self.means}
        return found

    def context(self, reference_kind: str, counts: dict[str, int]) -> dict[str, Any]:
        """Everything that must be known before two scores may be compared."""
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
            **({"measures": self._measures()} if settings.measures or settings.kd_extractor else {}),
        }

    def _measures(self) -> dict[str, Any]:
        """The measures that were made, and the extractors (and pairs) they were made with."""
        used = {key.removesuffix("_extractor"): extractor for key, extractor in self.extractors.measures.items()}
        return {
            "names": [name for name in SCORES if name not in MEANS and name not in DISTANCES and self.measured(name)],
            "extractors": {key: extractor.name for key, extractor in used.items()},
            "ids": {key: extractor.id for key, extractor in used.items()},
            **({"pairs": digest_value(self.yardstick.arrays[truth.PAIRS].tolist())} if self.yardstick.has("truth") else {}),
        }


DISTANCES: dict[str, Callable[[Scorer, list[Picture], list[Path]], dict[str, Any]]] = {"kid": Scorer.kid, "fid": Scorer.fid}
"""Scores of a whole set, with their intervals."""
MEANS: dict[str, Callable[[Scorer, list[Picture]], metrics.Array]] = {"clip_t": Scorer.clip_t, "clip_i": Scorer.clip_i}
"""Scores that are means over pictures, as functions that return the (N,) per-picture values."""
SETS: dict[str, Callable[[Scorer, list[Picture], metrics.Bootstrap], metrics.Estimate]] = {
    "kd": Scorer.kd, "cmmd": Scorer.cmmd, "diversity": Scorer.diversity,
    **{name: partial(Scorer.truth, name=name) for name in truth.MEASURES},
}  # fmt: skip
"""Optional measures of a whole set."""
KEPT = {"style_score": "style_extractor", "style_held_out": "style_extractor", "copies": "copy_extractor", "leakage": "extractor"}
"""Optional measures that are means of the yardstick's per-picture values, with the setting that names their extractor."""


def _groups(pictures: list[Picture]) -> list[str]:
    return [picture.prompt_id for picture in pictures]


def versions() -> dict[str, str]:
    """Versions of the installed packages that the scores depend on, by distribution name."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("styleforge", "torch", "transformers", "numpy", "scipy", "pillow", "torch-fidelity"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
