"""The rule for choosing a checkpoint and a guidance scale: the best score inside limits, with ties going to the preferred option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from components.core.config import Limit, ScoringSection
from components.core.content import derive_seed
from components.core.errors import InputError
from components.core.metrics import MEASURES, SPECS
from components.evaluation import truth
from components.evaluation.extraction import FeatureTable, extract, scored_paths
from components.evaluation.features import Extractors
from components.evaluation.metrics import Bootstrap
from components.evaluation.pictures import Picture, read_pictures
from components.evaluation.replicates import resampled
from components.evaluation.scoring import Scorer, build_yardstick
from components.evaluation.significance import Resampled, advantages
from components.evaluation.yardstick import StyleRef

CLIP_T = "clip_t"
RESAMPLES = 1000
SHOWN = 0.95
"""Confidence level of the intervals that are kept for display."""


@dataclass(frozen=True)
class Rule:
    """The best ``score`` inside ``limits`` wins; limits apply to point values, and ties to intervals at level ``confidence``."""

    score: str
    limits: Sequence[Limit]
    confidence: float

    @property
    def scores(self) -> list[str]:
        """All scores that the rule needs."""
        return list(dict.fromkeys([self.score, *(limit.metric for limit in self.limits)]))


class Point(NamedTuple):
    """What is chosen: a checkpoint by its step, and the guidance scale; a method may have a second scale for the style alone.

    ``seed`` is that of the training, if there are several to choose from.
    """

    step: int
    guidance: float
    style_guidance: float | None = None
    seed: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The point as ``selection.json`` and the model card store it."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    def told(self) -> str:
        """The point in words, for a log."""
        scales = f"{self.guidance:g}" if self.style_guidance is None else f"{self.guidance:g}, {self.style_guidance:g} of the style"
        return f"the checkpoint of step {self.step}, guidance {scales}" + ("" if self.seed is None else f", seed {self.seed},")

    def __str__(self) -> str:
        style = "" if self.style_guidance is None else f"-s{self.style_guidance:g}"
        return f"step-{self.step:08d}-g{self.guidance:g}{style}" + ("" if self.seed is None else f"-seed-{self.seed}")


@dataclass(frozen=True)
class Option:
    """An option, with its scores (value, low, high, n each) and, if pairs can be compared, the replicates of the deciding score."""

    at: Point
    scores: Mapping[str, Mapping[str, Any]]
    replicates: Resampled | None = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """The whole option as data for JSON; a replicate that is not finite becomes None."""
        spread = None
        if self.replicates is not None:
            spread = {
                "value": self.replicates.value,
                "replicates": [each if np.isfinite(each) else None for each in self.replicates.replicates.tolist()],
            }
        return {"at": self.at.as_json(), "scores": {name: dict(score) for name, score in self.scores.items()}, "spread": spread}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Option:
        """Read what :meth:`as_json` returned."""
        spread = record["spread"]
        known = None if spread is None else Resampled(spread["value"], np.array(spread["replicates"], dtype=float))
        return cls(Point(**record["at"]), record["scores"], known)


@dataclass(frozen=True)
class Choice:
    """The indices of the chosen option and the best score, and for each option whether it is inside the limits and ties with the best.

    ``behind`` is how far each option's score is behind the best, with the ends of the paired 95 % interval; without pairs, both ends are
    that value.
    """

    chosen: int
    best: int
    inside: list[bool]
    tied: list[bool]
    behind: list[tuple[float, float, float]]


_NEED_THE_REFERENCE = ("style_held_out", *truth.MEASURES)
"""Scores that are measured against the held-out reference, on which nothing is ever chosen."""
_OTHERWISE = "set selection.score to kid, or remove it from selection.limits"


def check_measurable(settings: ScoringSection, names: Sequence[str]) -> None:
    """Refuse scores that no candidate can have, whatever StyleRef is.

    Raises:
        InputError: a score needs the reference, which is never used for choosing, or an extractor that is not set.
    """
    for name in names:
        if name in _NEED_THE_REFERENCE:
            raise _unmeasurable(name, _OTHERWISE)
        if name == "kd" and not settings.kd_extractor:
            raise InputError(
                f"selection: {name}", "scoring.kd_extractor is not set", expected="the extractor in whose features KD is measured",
                remedy=f"set it; or {_OTHERWISE}",
            )  # fmt: skip


def judged_with(settings: ScoringSection, names: Sequence[str]) -> ScoringSection:
    """The scoring section with only those measures, and only the extractors, that the scores in ``names`` need."""
    measures = tuple(name for name in MEASURES if name in names)
    return settings.model_copy(update={"measures": measures, "kd_extractor": settings.kd_extractor if "kd" in names else None})


def _unmeasurable(name: str, remedy: str) -> InputError:
    problem, expected = "cannot be measured before the model is chosen", "a score that needs only StyleRef"
    return InputError(f"selection: {name}", problem, expected=expected, remedy=remedy)


class Judge:
    """Scores options on the selection bank.

    ``style_ref`` is what they are compared with, ``base`` the folder of the base's pictures of the same prompts, ``tokens`` as for
    ``scoring.score``; only the measures in ``names`` are made.
    """

    def __init__(
        self, style_ref: StyleRef, base: Path, settings: ScoringSection, seed: int, tokens: Sequence[str], names: Sequence[str]
    ) -> None:
        check_measurable(settings, names)
        settings = judged_with(settings, names)
        self._style_ref, self._settings, self._seed, self._tokens = style_ref, settings, seed, tokens
        self._extractors = Extractors.load(settings)
        self._base = read_pictures(base)
        table = self._extract(self._base)
        self._yardstick, _ = build_yardstick(style_ref, [], [picture.path for picture in self._base], settings, self._extractors, table)
        scorer = self._scorer(self._base)
        for name in names:
            if name in MEASURES and not scorer.measured(name):
                raise _unmeasurable(name, "; ".join(self._yardstick.notes) or _OTHERWISE)
        self.baseline = scorer.one(CLIP_T, self._base)

    def option(self, at: Point, pictures: Path, rule: Rule) -> Option:
        """Score a folder of pictures as an option."""
        drawn = read_pictures(pictures)
        scorer = self._scorer(drawn)
        scores = {name: scorer.one(name, drawn) for name in rule.scores}
        # With one seed, all options resample the same prompts, so that differences are paired. StyleRef is the same for all.
        known = resampled(scorer.values(drawn), RESAMPLES, derive_seed(self._seed, "selection"), same_reference=True)
        spread = known.get(rule.score)
        return Option(at, scores, None if spread is None else Resampled(float(scores[rule.score]["value"]), spread))

    def _extract(self, drawn: Sequence[Picture]) -> FeatureTable:
        return extract(scored_paths([drawn], self._style_ref.paths), self._extractors.all, self._settings.batch_size)

    def _scorer(self, drawn: Sequence[Picture]) -> Scorer:
        table, reference = self._extract(drawn), list(self._style_ref.paths)
        return Scorer(self._extractors, table, reference, self._settings, self._seed, self._tokens, self._yardstick)


def choose(options: Sequence[Option], rule: Rule) -> Choice:
    """Choose among options in order of preference: the first that ties with the best inside the limits.

    If none is inside, only those that exceed the limits by the least are considered.
    """
    outside = [excess(option.scores, rule.limits) for option in options]
    least = max(min(outside), 0.0)
    allowed = [index for index, amount in enumerate(outside) if amount <= least]
    sign = 1.0 if SPECS[rule.score].lower else -1.0
    best = min(allowed, key=lambda index: sign * float(options[index].scores[rule.score]["value"]))
    behind = [_behind(options[best], option, rule.score, SHOWN) for option in options]
    lows = [_behind(options[best], option, rule.score, rule.confidence)[1] for option in options]
    tied = [index in allowed and (index == best or low <= 0.0) for index, low in enumerate(lows)]
    return Choice(tied.index(True), best, [amount <= 0.0 for amount in outside], tied, behind)


def excess(scores: Mapping[str, Mapping[str, Any]], limits: Sequence[Limit]) -> float:
    """The largest amount by which a score is outside its limit; at most 0 if all are inside."""
    return max((limit.excess(float(scores[limit.metric]["value"])) for limit in limits), default=0.0)


def _behind(best: Option, other: Option, score: str, confidence: float) -> tuple[float, float, float]:
    """By how much the best is better in a score, and the paired interval of that difference."""
    lower = SPECS[score].lower
    if best.replicates is None or other.replicates is None:
        values = [float(option.scores[score]["value"]) for option in (best, other)]
        gap = (1.0 if lower else -1.0) * (values[1] - values[0])
        return gap, gap, gap
    with np.errstate(invalid="ignore"):  # A resample with a single picture has no KID.
        found = advantages(best.replicates, other.replicates, lower=lower, margin=0.0)
    spread = found.replicates[np.isfinite(found.replicates)]
    return found.value, *Bootstrap(len(spread), confidence).interval(found.value, spread)
