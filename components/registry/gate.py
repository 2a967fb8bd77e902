"""The promotion gate: rules that compare a model's scores and their intervals with limits, the base or the champion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from components.core.config import Section, read_config, validate_model
from components.core.config.rights import RightsRule
from components.core.metrics import PAIRED, SPECS, Metric, MetricName, confidence_of
from components.core.rights import check_rule, refused, summarize

Verdict = Literal["pass", "refuse", "undecided"]
Replicates = Mapping[str, NDArray[np.float64]]
"""Maps each metric to its (B,) values on B resamples; models that are compared share the resamples."""


class Rule(Section):
    """One condition for promoting the model."""

    metric: MetricName = Field(
        description="The score. Main scores: `kid`, `fid` (natural units), `clip_t`, `clip_i` (0–100). Drift, without the identifier and "
        "against the base: `drift_kid`, `drift_clip_t`, `drift_clip_i`, `drift_style_score`. Measures of the run: `style_score`, "
        "`style_held_out`, `copies`, `leakage`, `diversity`, `kd`, `cmmd`, `truth`, `truth_style`, `truth_colours`, `truth_lines`, "
        "`binding`. Number of scored images: `n`. Votes on a blind page: `taken_for_artist`, `preferred`, `preferred_in_style` (all "
        "0–100), and the number of voters, `voters`."
    )
    against: Literal["base", "champion"] | None = Field(
        None, description="Model whose score the limit multiplies; default: the limit is itself a score."
    )
    at_most: float | None = Field(None, description="Upper limit: a score, or with `against` a multiple of the other model's score.")
    at_least: float | None = Field(None, description="Lower limit, likewise.")
    margin: float = Field(0.0, ge=0.0, description="Slack on the limit, in the score's units.")
    decide: Literal["interval", "value"] = Field(
        "interval",
        description="`interval`: the whole interval must be within the limit; if only part of it is, the rule is undecided. `value`: "
        "only the score counts.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_limit(self) -> Rule:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"rule on {self.metric}: needs exactly one of at_most and at_least")
        if self.against and self.metric == "n":
            raise ValueError("rule on n: a number of images can only be compared with a number")
        if self.against and SPECS[self.metric].group == "votes":
            raise ValueError(f"rule on {self.metric}: votes can only be compared with a number; omit against")
        if self.against == "base" and self.metric in ("drift_kid", "binding"):
            raise ValueError(f"rule on {self.metric}: it is already relative to the base; omit against")
        if self.against == "champion" and SPECS[self.metric].group == "drift":
            raise ValueError(f"rule on {self.metric}: drift can only be compared with the base or a number")
        return self

    @property
    def name(self) -> str:
        """The rule in words."""
        metric = SPECS[self.metric]
        amount = f"{self.limit:g} × the {self.against}'s" if self.against else f"{self.limit * metric.factor:g}"
        slack = f" with a margin of {self.margin * metric.factor:g}" if self.margin else ""
        return f"{metric.label} {self.sense} {amount}{slack}"

    @property
    def limit(self) -> float:
        """The limit, whether upper or lower."""
        return float(self.at_least or 0.0) if self.at_most is None else self.at_most

    @property
    def sense(self) -> str:
        """``at most`` or ``at least``."""
        return "at least" if self.at_most is None else "at most"


class GateConfig(Section):
    """The conditions for promotion."""

    rules: tuple[Rule, ...] = Field(min_length=1, description="Rules; all must pass.")
    rights: RightsRule = Field(RightsRule(), description="Rights required of the images the model was trained on.")


@dataclass(frozen=True)
class RuleResult:
    """A rule, its verdict, and a message with the figures."""

    name: str
    verdict: Verdict
    message: str


@dataclass(frozen=True)
class GateResult:
    """The overall verdict: ``refuse`` if any rule refuses, else ``undecided`` if any is undecided, else ``pass``."""

    verdict: Verdict
    rules: tuple[RuleResult, ...]

    def listing(self) -> str:
        """The rules that did not pass, one per line."""
        return "".join(f"\n  {rule.verdict}: {rule.message}" for rule in self.rules if rule.verdict != "pass")


@dataclass(frozen=True)
class _Interval:
    value: float
    low: float
    high: float
    n: int | None = None


def load_gate(path: Path) -> GateConfig:
    """Read a gate from a YAML file."""
    gate = validate_model(GateConfig, read_config(path)[1], str(path))
    check_rule(gate.rights, f"{path}: rights.licenses")
    return gate


def judge(
    gate: GateConfig, scores: Mapping[str, Any], champion: Mapping[str, Any] | None, paired: tuple[Replicates, Replicates] | None = None
) -> GateResult:
    """Check a model's ``scores.json``, with its ``votes`` and ``rights`` if it has them, against the rules.

    ``champion`` holds the champion's ``style`` scores, computed with the same prompts, reference and extractor. Where a metric has
    ``paired`` replicates, their differences decide a rule against the champion; otherwise the two intervals are combined as if
    independent, which leaves more rules undecided.
    """
    results = tuple(_apply(rule, scores, champion, paired) for rule in gate.rules)
    if gate.rights.licenses:
        results += (_judge_rights(gate.rights, scores.get("rights")),)
    verdicts = [result.verdict for result in results]
    verdict: Verdict = "refuse" if "refuse" in verdicts else "undecided" if "undecided" in verdicts else "pass"
    return GateResult(verdict, results)


def _apply(
    rule: Rule, scores: Mapping[str, Any], champion: Mapping[str, Any] | None, paired: tuple[Replicates, Replicates] | None
) -> RuleResult:
    label = SPECS[rule.metric].label
    if rule.against == "champion" and champion is None:
        return RuleResult(rule.name, "pass", f"{label}: there is no champion to compare with")
    mine = _score(scores, rule.metric)
    if mine is None:
        missing = "nobody has voted on the model" if SPECS[rule.metric].group == "votes" else "the model has no such score"
        return RuleResult(rule.name, "refuse", f"{label}: {missing}")
    level = confidence_of(scores)
    if rule.against is None:
        return _decide(rule, mine, None, level)
    other = _base_score(scores, rule.metric) if rule.against == "base" else _score({"style": champion}, rule.metric)
    if other is None:
        return RuleResult(rule.name, "refuse", f"{label}: the {rule.against} has no such score")
    replicates = paired if rule.against == "champion" and rule.metric in PAIRED else None
    return _decide(rule, mine, other, level, replicates and (replicates[0][rule.metric], replicates[1][rule.metric]))


def _judge_rights(rule: RightsRule, rows: Sequence[Mapping[str, Any]] | None) -> RuleResult:
    """Apply the rule on rights; the message names every image that it refuses."""
    name = f"rights: {', '.join(rule.licenses)}"
    if not rows:
        problem = "the model has no record of the rights to its training images; set rights.record or rights.licenses, and run again"
        return RuleResult(name, "refuse", f"rights: {problem}")
    found, facts = refused(rule, rows), summarize(rows)
    if found:
        listing = "".join(f"\n    {path}: {reason}" for path, reason in found.items())
        return RuleResult(name, "refuse", f"rights: {len(found)} of {len(rows)} images may not be trained on{listing}")
    shared = f"; share-alike: {', '.join(facts['share_alike'])}" if facts["share_alike"] else ""
    return RuleResult(name, "pass", f"rights: {len(rows)} images under {', '.join(facts['licenses'])}{shared}")


def _score(scores: Mapping[str, Any], name: str) -> _Interval | None:
    metric, style = SPECS[name], scores.get("style") or {}
    if metric.group == "count":
        counts = [score["n"] for score in style.values() if isinstance(score, Mapping) and score.get("n")]
        return _Interval(*(float(min(counts)),) * 3) if counts else None
    if metric.group == "votes":
        return _votes(scores.get("votes") or {}, name)
    return _interval((scores.get("drift") or {}).get(metric.source) if metric.group == "drift" else style.get(name))


def _votes(votes: Mapping[str, Any], name: str) -> _Interval | None:
    if name != "voters":
        return _interval(votes.get(name))
    people = [float(vote["people"]) for vote in votes.values()]
    return _Interval(*(min(people),) * 3) if people else None


def _base_score(scores: Mapping[str, Any], name: str) -> _Interval | None:
    metric = SPECS[name]
    if metric.group == "drift":
        return _interval((scores.get("drift") or {}).get(f"{metric.source}_base"))
    return _interval((scores.get("base") or {}).get(name))


def _interval(score: Mapping[str, Any] | None) -> _Interval | None:
    value = (score or {}).get("value")
    if value is None or not math.isfinite(value):
        return None
    low, high = ((score or {}).get(key) for key in ("low", "high"))
    return _Interval(float(value), float(value if low is None else low), float(value if high is None else high), (score or {}).get("n"))


def _decide(
    rule: Rule, mine: _Interval, other: _Interval | None, level: float, paired: Sequence[NDArray[np.float64]] | None = None
) -> RuleResult:
    """Decide a rule: its limit is met where ``excess`` = ±(mine − factor · other − fixed) − margin is at most zero."""
    sign = 1.0 if rule.at_most is not None else -1.0
    factor, fixed = (rule.limit, 0.0) if other else (0.0, rule.limit)
    theirs = other or _Interval(0.0, 0.0, 0.0)
    excess = sign * (mine.value - factor * theirs.value - fixed) - rule.margin
    if rule.decide == "value":
        low = high = excess
    elif paired is not None:
        spread = sign * (paired[0] - factor * paired[1])
        spread = spread[np.isfinite(spread)]
        tail = (1 - level) / 2
        low, high = (excess + float(q) for q in np.quantile(spread - spread.mean(), [tail, 1 - tail]))
    else:
        low, high = _combined(sign, factor, mine, theirs, excess)
    verdict: Verdict = "pass" if high <= 0 else "refuse" if low > 0 else "undecided"
    return RuleResult(rule.name, verdict, _message(rule, mine, other, verdict, excess, (low, high), paired is not None))


def _combined(sign: float, factor: float, mine: _Interval, theirs: _Interval, excess: float) -> tuple[float, float]:
    """Interval of a difference from the intervals of its two terms, which may be asymmetric (MOVER: Zou and Donner 2008, eq. 5)."""
    up, down = (mine.high - mine.value, mine.value - mine.low) if sign > 0 else (mine.value - mine.low, mine.high - mine.value)
    other_up, other_down = (theirs.high - theirs.value, theirs.value - theirs.low)
    if (sign > 0) == (factor >= 0):
        other_up, other_down = other_down, other_up
    size = abs(factor)
    return excess - math.hypot(down, size * other_down), excess + math.hypot(up, size * other_up)


def _message(
    rule: Rule, mine: _Interval, other: _Interval | None, verdict: Verdict, excess: float, ends: tuple[float, float], paired: bool
) -> str:
    metric = SPECS[rule.metric]
    text = f"{metric.label} is {_text(metric, mine)}"
    if other is None:
        text += f"; the limit is {rule.sense} {metric.exact(rule.limit)}"
    else:
        text += f", the {rule.against}'s {_text(metric, other)}; the limit is {rule.sense} {rule.limit:g} × that"
        text += f" = {metric.exact(rule.limit * other.value)}"
    if rule.margin:
        text += f" with a margin of {metric.exact(rule.margin)}"
    if verdict == "refuse":
        return f"{text}; missed by {metric.exact(excess)}"
    if verdict == "undecided":
        side = "met" if excess <= 0 else "missed"
        how = "paired resamples" if paired else "the intervals"
        return (
            f"{text}; {side} by {metric.exact(abs(excess))}, but by {how} it may be as much as {metric.exact(-ends[0])} inside the limit "
            f"or {metric.exact(ends[1])} outside{_needed(mine, excess, ends, 'answers' if metric.group == 'votes' else 'images')}"
        )
    return text


def _needed(mine: _Interval, excess: float, ends: tuple[float, float], what: str) -> str:
    """Say how many pictures or answers would decide the rule, if the score stays the same and the interval shrinks as 1/√n."""
    reach = (ends[1] - excess) if excess <= 0 else (excess - ends[0])
    if not mine.n or excess == 0:
        return f"; more {what} may decide it"
    if reach > 10 * abs(excess):
        return f"; it is so close to the limit that no reasonable number of {what} would decide it"
    needed = float(f"{mine.n * (reach / abs(excess)) ** 2:.2g}")
    return f"; about {needed:.0f} {what} would decide it (there are {mine.n})"


def _text(metric: Metric, score: _Interval) -> str:
    text = metric.exact(score.value)
    if (score.low, score.high) != (score.value, score.value):
        text += f" ({metric.exact(score.low)} to {metric.exact(score.high)})"
    return text
