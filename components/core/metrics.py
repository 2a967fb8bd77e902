"""The scores: where each is found in ``scores.json``, its name for readers, how it is shown, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal


@dataclass(frozen=True)
class Metric:
    """One score.

    ``group`` and ``source`` say where it is in ``scores.json``; ``factor`` and ``digits`` how it is shown; ``bounded`` scores keep
    all their digits in tables, where the others are rounded to three. ``paired`` scores have values on resamples that all models
    share (see ``components/evaluation/replicates.py``), so that claims and the gate can detect small differences. Scores whose value for
    the base is zero by design are not ``proportional``: for them a change in percent means nothing.
    """

    key: str
    label: str
    lower: bool
    unit: str
    help: str
    factor: float = 1.0
    digits: int = 2
    bounded: bool = False
    paired: bool = False
    group: Literal["style", "drift", "count", "front", "votes"] = "style"
    source: str = ""
    proportional: bool = True

    @property
    def better(self) -> str:
        """``lower`` or ``higher``."""
        return "lower" if self.lower else "higher"

    @property
    def worse(self) -> str:
        """``higher`` or ``lower``."""
        return "higher" if self.lower else "lower"

    @property
    def title(self) -> str:
        """The label with an arrow that says which way is better."""
        return f"{self.label} {'↓' if self.lower else '↑'}"

    def exact(self, value: float) -> str:
        """A value with a fixed number of decimals."""
        return f"{value * self.factor:.{self.digits}f}"

    def text(self, value: float, like: float | None = None) -> str:
        """A value for tables: about three significant digits, with as many decimals as ``like`` would get."""
        size = abs((value if like is None else like) * self.factor)
        decimals = self.digits if self.bounded else 0 if size >= 100 else 1 if size >= 10 else 2
        return f"{value * self.factor:.{decimals}f}".replace("-", "−")

    def interval(self, score: Mapping[str, Any] | None) -> str:
        """A score for tables with the ends of its interval in brackets; a dash where it is missing."""
        if not score or score.get("value") is None:
            return "–"
        text = self.text(score["value"])
        if score.get("low") is None or score.get("high") is None:
            return text
        low, high = (self.text(score[end], like=score["value"]) for end in ("low", "high"))
        return f"{text} ({low} to {high})"


_POINTS = "points, 0–100"
SPECS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("kid", "KID × 10³", True, "natural", "distance to the style", factor=1000.0, paired=True),
        Metric("fid", "FID", True, "squared feature units", "distance to the style"),
        Metric("clip_t", "CLIP-T", False, _POINTS, "match with the prompt", bounded=True, paired=True),
        Metric("clip_i", "CLIP-I", False, _POINTS, "similarity to the reference", bounded=True, paired=True),
        Metric(
            "style_score", "style", False, "1 = StyleRef's own", "similarity to StyleRef; 1 is as similar as its own images", paired=True,
            proportional=False,
        ),
        Metric(
            "style_held_out", "style, held out", False, "1 = the reference's own",
            "similarity to the held-out reference; 1 is as similar as its own images", paired=True, proportional=False,
        ),
        Metric(
            "copies", "copies, %", True, "percent", "images closer to a StyleRef image than those are to one another", bounded=True,
            paired=True, proportional=False,
        ),
        Metric(
            "leakage", "leakage, %", True, "percent", "images that fit a caption of StyleRef better than their prompt", bounded=True,
            paired=True, proportional=False,
        ),
        Metric("diversity", "diversity", False, _POINTS, "how different the images are from one another", bounded=True),
        Metric("kd", "KD × 10³", True, "natural", "distance to the style in the features of scoring.kd_extractor", factor=1000.0),
        Metric("cmmd", "CMMD", True, "natural × 10³", "distance to the style with a Gaussian kernel"),
        Metric(
            "truth", "to the artist's own", True, "100 · (1 − cosine)", "distance to the artist's own drawing of the concept", bounded=True,
        ),
        Metric(
            "truth_style", "to the artist's own, style", True, "100 · (1 − cosine)", "the same in the features of the style extractor",
            bounded=True,
        ),
        Metric("truth_colours", "to the artist's own, colours", True, "100 · (1 − cosine)", "the same by colour shares", bounded=True),
        Metric(
            "truth_lines", "to the artist's own, lines", True, "100 · (1 − cosine)", "the same by lines, edges and areas at several scales",
            bounded=True,
        ),
        Metric(
            "binding", "style by the token", False, "style", "style with the token minus style without it, on the same seeds",
            group="drift", source="binding",
        ),
        Metric(
            "drift_style_score", "style without the token", True, "style", "similarity to StyleRef without the token", proportional=False,
            group="drift", source="style_score",
        ),
        Metric(
            "drift_kid", "drift KID × 10³", True, "natural", "distance to the base's images without the token", factor=1000.0,
            group="drift", source="kid_to_base",
        ),
        Metric(
            "drift_clip_t", "CLIP-T without the token", False, _POINTS, "match with the prompt without the token", bounded=True,
            group="drift", source="clip_t",
        ),
        Metric(
            "drift_clip_i", "CLIP-I without the token", True, _POINTS, "similarity to the reference without the token", bounded=True,
            group="drift", source="clip_i",
        ),
        Metric(
            "hypervolume", "dominated area, %", False, "percent", "what the method reaches across guidance scales: style against prompts",
            bounded=True, paired=True, group="front",
        ),
        Metric("n", "number of images", False, "pictures", "images that were scored", digits=0, group="count"),
        Metric(
            "taken_for_artist", "taken for the artist's, %", False, "percent", "how often people took the model's image for the artist's; "
            "50 is what guessing gives", group="votes",
        ),
        Metric("preferred", "liked better, %", False, "percent", "how often people liked it better than another model's", group="votes"),
        Metric(
            "preferred_in_style", "more in the style, %", False, "percent", "how often people found it more in the style than another "
            "model's", group="votes",
        ),
        Metric("voters", "number of voters", False, "people", "people behind every such figure", digits=0, group="votes"),
    )
}  # fmt: skip
SCORES = tuple(key for key, metric in SPECS.items() if metric.group == "style")
"""The scores of a model's pictures, in the order of tables."""
MEASURES = SCORES[4:]
"""The scores that a run may leave out."""
PAIRED = tuple(key for key in SCORES if SPECS[key].paired)
HYPERVOLUME = "hypervolume"
"""A score that only comparisons have: a method's results at several guidance scales as one figure."""
MAIN = ("kid", "clip_t")
"""Closeness to the style, and match with the prompt: the scores that short tables, the plot and the verdict show."""

if TYPE_CHECKING:
    MetricName = str
    PairedName = str
else:
    MetricName = Literal[tuple(key for key, metric in SPECS.items() if metric.group != "front")]
    PairedName = Literal[(*PAIRED, HYPERVOLUME)]


def scores_in(scores: Mapping[str, Any]) -> list[str]:
    """The scores that are present, in the order of tables."""
    return [key for key in SCORES if scores.get(key)]


def score_rows(style: Mapping[str, Any], base: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """One row per score present, as text: its title, the model's and the base's value with intervals, and the number of pictures."""
    shown = (SPECS[key] for key in scores_in(style))
    return [(m.title, m.interval(style[m.key]), m.interval(base.get(m.key)), str(style[m.key].get("n", "–"))) for m in shown]


def confidence_of(scores: Mapping[str, Any]) -> float:
    """The confidence level of the intervals in ``scores.json``; 0.95 for early versions, which do not record it."""
    return float((scores.get("context") or {}).get("confidence", 0.95))
