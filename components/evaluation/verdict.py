"""From scores to one sentence that a person can act on."""

from dataclasses import dataclass, field
from typing import Any

from components.core.metrics import MAIN, SPECS

STYLE_TAKEN, STYLE_PARTLY = 0.5, 0.85
"""Largest share of the base's KID that may remain if the style is to count as learned, or as partly learned."""
PROMPTS_KEPT, PROMPTS_WEAKER = 0.10, 0.25
"""Largest share of the base's CLIP-T that may be lost if prompts are to count as followed, or as followed less closely."""
FEW_PICTURES = 50
COPIES_BY_CHANCE = 15.0
"""Percent of pictures that may count as copies by chance; used if there are no held-out pictures to tell."""


@dataclass(frozen=True)
class Verdict:
    """A ``level`` (good, mixed or bad), a headline, the numbers behind it, advice, and caveats."""

    level: str
    headline: str
    because: str
    advice: str
    caveats: list[str] = field(default_factory=list)


def judge(scores: dict[str, Any]) -> Verdict:
    """The verdict on a style model, from the ``scores`` that :func:`components.evaluation.scoring.score` returns."""
    style, base = scores["style"], scores["base"]
    took, prompts = _took(style["kid"], base["kid"]), _prompts(style["clip_t"], base["clip_t"])
    level, headline, advice = _OUTCOMES[took, prompts]
    return Verdict(level, headline, _because(scores), advice, _caveats(scores))


def overlap(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two intervals share a point, so that the difference may be chance."""
    return bool(a["low"] <= b["high"] and b["low"] <= a["high"])


def relative_change(value: float, base: float) -> float | None:
    """(value − base) / |base|, or None where the base is zero."""
    return (value - base) / abs(base) if base else None


def percent(change: float) -> str:
    """A relative change as text: ``−76 %``."""
    return f"{100 * change:+.0f} %".replace("-", "−")


def percent_range(low: float, high: float) -> str:
    """Two shares of 0–1 as text: ``1.4–7.7 %``."""
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def _took(style: dict[str, Any], base: dict[str, Any]) -> str:
    if style["value"] >= base["value"] or overlap(style, base):
        return "no"
    share = round(style["value"] / base["value"], 6)
    return "yes" if share <= STYLE_TAKEN else "partly" if share <= STYLE_PARTLY else "no"


def _prompts(style: dict[str, Any], base: dict[str, Any]) -> str:
    # Rounded, so that a loss of exactly the limit is within it.
    lost = round(-(relative_change(style["value"], base["value"]) or 0.0), 6)
    return "kept" if lost <= PROMPTS_KEPT else "weaker" if lost <= PROMPTS_WEAKER else "lost"


_LONGER = "Train longer (training.steps), raise training.learning_rate, or let the text encoder train (method.train_text_encoder)"
_GENTLER = "Use an earlier checkpoint or fewer training.steps, lower training.learning_rate, or raise method.prior_weight"
_OUTCOMES = {
    ("yes", "kept"): ("good", "The model learned the style and still follows prompts.", "Check the images below, then promote it."),
    ("yes", "weaker"): ("mixed", "The model learned the style but follows prompts less closely than its base.", f"{_GENTLER}."),
    ("yes", "lost"): ("bad", "The model learned the style but no longer follows prompts.", f"{_GENTLER}."),
    ("partly", "kept"): ("mixed", "The model learned part of the style and still follows prompts.", f"{_LONGER}."),
    ("partly", "weaker"): (
        "mixed",
        "The model learned part of the style and follows prompts less closely.",
        "Add StyleRef and Aux images; see both sets below.",
    ),
    ("partly", "lost"): (
        "bad",
        "The model learned part of the style and no longer follows prompts.",
        f"{_GENTLER}; check StyleRef below.",
    ),
    ("no", "kept"): ("bad", "The model did not learn the style: its images are no closer to it than the base's.", f"{_LONGER}."),
    ("no", "weaker"): (
        "bad",
        "The model did not learn the style and follows prompts less closely.",
        "Do not use it; see the loss curve and the data below.",
    ),
    ("no", "lost"): ("bad", "The model is broken: it shows neither the style nor what prompts ask for.", f"Do not use it. {_GENTLER}."),
}


def _because(scores: dict[str, Any]) -> str:
    style, base = scores["style"], scores["base"]
    where = "held-out reference" if scores["context"]["reference"] == "held-out" else "StyleRef images"
    change = relative_change(style["kid"]["value"], base["kid"]["value"])
    moved = "" if change is None else f" ({percent(change)})"
    certain = "; the intervals overlap, so this may be chance" if overlap(style["kid"], base["kid"]) else ""
    kid, clip_t = ([SPECS[key].text(score[key]["value"]) for score in (style, base)] for key in MAIN)
    labels = [SPECS[key].label for key in MAIN]
    return (
        f"{labels[0]} to the {where} is {kid[0]}, against {kid[1]} for the base{moved}{certain}. "
        f"{labels[1]}, how well images match their prompts, is {clip_t[0]}, against {clip_t[1]}."
    )


def _caveats(scores: dict[str, Any]) -> list[str]:
    context, style, drift = scores["context"], scores["style"], scores.get("drift")
    found = []
    if context["reference"] != "held-out":
        found.append(
            "No reference images were held out, so FID, KID and CLIP-I are measured against the training images, which "
            "flatters a model that copies them. Set style.reference, or put images into reference/."
        )
    if style["kid"]["n"] < FEW_PICTURES or context["reference_n"] < FEW_PICTURES:
        found.append(
            f"{style['kid']['n']} images against {context['reference_n']} reference images is a small sample, and "
            "FID in particular is biased upwards. Compare only runs with equal counts."
        )
    if drift and (relative_change(drift["clip_t"]["value"], drift["clip_t_base"]["value"]) or 0.0) < -PROMPTS_KEPT:
        found.append(
            "Prompts without the style token changed too: the model forgot some of what its base knew. A higher method.prior_weight helps."
        )
    if copied := _copied(scores):
        found.append(copied)
    if context.get("prompts_cut"):
        found.append(
            f"{context['prompts_cut']} prompt(s) are longer than the extractor reads; their CLIP-T is computed from their beginning."
        )
    return found


def _copied(scores: dict[str, Any]) -> str:
    """A warning if clearly more drawn pictures than held-out pictures of the style count as copies of StyleRef; else empty."""
    drawn, own = scores["style"].get("copies"), ((scores.get("measures") or {}).get("reference") or {}).get("copies")
    if not drawn or drawn["low"] <= (own["high"] if own else COPIES_BY_CHANCE):
        return ""
    beside = f", against {own['value']:.0f} % of held-out images" if own else ""
    return (
        f"{drawn['value']:.0f} % of the images are closer to a StyleRef image than those are to one another{beside}: the model copies. "
        "Use an earlier checkpoint, or add StyleRef images."
    )
