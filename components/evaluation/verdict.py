"""Scores to one sentence that a person can act on."""

from dataclasses import dataclass, field
from typing import Any

from components.core.metrics import MAIN, SPECS

STYLE_TAKEN, STYLE_PARTLY = 0.5, 0.85
"""Share of the base's KID that is left: at most this counts as taken, or as partly taken."""
PROMPTS_KEPT, PROMPTS_WEAKER = 0.10, 0.25
"""Share of the base's CLIP-T that may be lost while prompts count as followed, or as followed less."""
FEW_PICTURES = 50
COPIES_BY_CHANCE = 15.0
"""Percent of pictures that may count as copies where no held-out ones say how many do by chance."""


@dataclass(frozen=True)
class Verdict:
    """``level`` is good, mixed or bad; then a headline, the numbers behind it, what to do, and what to keep in mind."""

    level: str
    headline: str
    because: str
    advice: str
    caveats: list[str] = field(default_factory=list)


def judge(scores: dict[str, Any]) -> Verdict:
    """The verdict on a style model, from ``scores`` as :func:`components.evaluation.scoring.score` gives them."""
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
    """A relative change for people: ``−76 %``."""
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
_GENTLER = "Take an earlier checkpoint or fewer training.steps, lower training.learning_rate, or give Aux more weight (method.prior_weight)"
_OUTCOMES = {
    ("yes", "kept"): ("good", "The style took, and prompts are still followed.", "Look through the pictures below, then promote it."),
    ("yes", "weaker"): ("mixed", "The style took, but prompts are followed less than by the base.", f"{_GENTLER}."),
    ("yes", "lost"): ("bad", "The style took at the price of the prompts: the model no longer follows them.", f"{_GENTLER}."),
    ("partly", "kept"): ("mixed", "The style took in part; prompts are still followed.", f"{_LONGER}."),
    ("partly", "weaker"): (
        "mixed",
        "The style took in part; prompts are followed less.",
        "Add StyleRef and Aux pictures; see both sets below.",
    ),
    ("partly", "lost"): ("bad", "The style took in part, and prompts are lost.", f"{_GENTLER}; then look at the StyleRef pictures below."),
    ("no", "kept"): ("bad", "The style did not take: pictures are no nearer to it than the base's.", f"{_LONGER}."),
    ("no", "weaker"): (
        "bad",
        "The style did not take, and prompts are followed less.",
        "Do not use it; see the loss curve and the data below.",
    ),
    ("no", "lost"): ("bad", "The model is broken: neither the style nor the prompts are there.", f"Do not use it. {_GENTLER}."),
}


def _because(scores: dict[str, Any]) -> str:
    style, base = scores["style"], scores["base"]
    where = "held-out reference" if scores["context"]["reference"] == "held-out" else "StyleRef pictures"
    change = relative_change(style["kid"]["value"], base["kid"]["value"])
    moved = "" if change is None else f" ({percent(change)})"
    certain = "; the intervals overlap, so this may be chance" if overlap(style["kid"], base["kid"]) else ""
    kid, clip_t = ([SPECS[key].text(score[key]["value"]) for score in (style, base)] for key in MAIN)
    labels = [SPECS[key].label for key in MAIN]
    return (
        f"{labels[0]} to the {where} is {kid[0]} beside the base's {kid[1]}{moved}{certain}. "
        f"{labels[1]}, how well pictures match their prompts, is {clip_t[0]} beside {clip_t[1]}."
    )


def _caveats(scores: dict[str, Any]) -> list[str]:
    context, style, drift = scores["context"], scores["style"], scores.get("drift")
    found = []
    if context["reference"] != "held-out":
        found.append(
            "No reference pictures were held out, so FID, KID and CLIP-I rest on the training pictures and flatter a model "
            "that copies them. Set style.reference, or put pictures into reference/."
        )
    if style["kid"]["n"] < FEW_PICTURES or context["reference_n"] < FEW_PICTURES:
        found.append(
            f"{style['kid']['n']} pictures against {context['reference_n']} reference pictures are few; "
            "FID above all is biased upwards. Compare it only with runs of equal counts."
        )
    if drift and (relative_change(drift["clip_t"]["value"], drift["clip_t_base"]["value"]) or 0.0) < -PROMPTS_KEPT:
        found.append(
            "Prompts without the style token drifted too: the model lost some of what its base knew. More Aux weight counters that."
        )
    if copied := _copied(scores):
        found.append(copied)
    if context.get("prompts_cut"):
        found.append(f"{context['prompts_cut']} prompt(s) are longer than the extractor reads; their CLIP-T rests on their beginning.")
    return found


def _copied(scores: dict[str, Any]) -> str:
    """A warning where surely more drawn pictures come near to StyleRef than pictures of the style do that the model has not seen."""
    drawn, own = scores["style"].get("copies"), ((scores.get("measures") or {}).get("reference") or {}).get("copies")
    if not drawn or drawn["low"] <= (own["high"] if own else COPIES_BY_CHANCE):
        return ""
    beside = f", beside {own['value']:.0f} % of held-out pictures" if own else ""
    return (
        f"{drawn['value']:.0f} % of the pictures are nearer to one of StyleRef than its own are to one another{beside}: the model copies. "
        "Take an earlier checkpoint, or add StyleRef pictures."
    )
