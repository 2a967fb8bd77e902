"""A score beside the base's as one line of a page."""

from collections.abc import Mapping
from typing import Any

from components.core.metrics import Metric
from components.evaluation import charts
from components.evaluation.verdict import overlap, percent, relative_change


def score_row(metric: Metric, style: Mapping[str, Any], base: Mapping[str, Any] | None) -> dict[str, Any]:
    """One line of a score table, as text; ``improved`` is None where the difference may be chance."""

    def ends(score: Mapping[str, Any]) -> str:
        return " – ".join(metric.text(score[end], like=score["value"]) for end in ("low", "high"))

    row = {
        "name": metric.label, "better": metric.better, "style": metric.text(style["value"]), "style_interval": ends(style),
        "base": "–", "base_interval": "", "change": "", "improved": None, "bars": "",
    }  # fmt: skip
    if base is None:
        return row
    change = relative_change(style["value"], base["value"]) if metric.proportional else None
    better = style["value"] < base["value"] if metric.lower else style["value"] > base["value"]
    return row | {
        "base": metric.text(base["value"]), "base_interval": ends(base), "change": "" if change is None else percent(change),
        "improved": None if overlap(dict(style), dict(base)) else better,
        "bars": charts.interval_bars(dict(style), dict(base), metric.factor),
    }  # fmt: skip
