"""Inline SVG charts for the report; their colours come from the page's CSS, so they follow light, dark and print styles."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from components.core.metrics import Metric

Point = tuple[float, float]

_WIDTH, _HEIGHT = 640, 276
_MAX_POINTS = 240


@dataclass(frozen=True)
class Frame:
    """Maps points to pixels, inside margins (left, right, top, bottom) and along two axes from :func:`axis`."""

    width: int
    height: int
    margins: tuple[int, int, int, int]
    x_axis: list[float]
    y_axis: list[float]

    def at(self, x: float, y: float) -> Point:
        """Where a point is, in pixels from the upper left."""
        left, right, top, bottom = self.margins
        across = (x - self.x_axis[0]) / (self.x_axis[-1] - self.x_axis[0])
        up = (y - self.y_axis[0]) / (self.y_axis[-1] - self.y_axis[0])
        return left + across * (self.width - left - right), top + (1 - up) * (self.height - top - bottom)

    def grid(self, *, upright: bool = False) -> str:
        """SVG of the tick labels and horizontal lines; ``upright`` adds the vertical lines."""
        left, right, top, bottom = self.margins
        parts = []
        for y in self.y_axis:
            _, place = self.at(self.x_axis[0], y)
            parts.append(f'<path class="rule" d="M{left} {place:.1f}H{self.width - right}"/>')
            parts.append(f'<text class="axis" x="{left - 8}" y="{place + 4:.1f}" text-anchor="end">{y:g}</text>')
        for x in self.x_axis:
            place, _ = self.at(x, self.y_axis[0])
            parts.append(f'<path class="rule" d="M{place:.1f} {top}V{self.height - bottom}"/>' if upright else "")
            parts.append(f'<text class="axis" x="{place:.1f}" y="{self.height - bottom + 20}" text-anchor="middle">{x:g}</text>')
        return "".join(parts)


def loss_curve(rows: Sequence[dict[str, Any]]) -> str:
    """SVG of the losses in a training log; empty if nothing can be drawn.

    StyleRef and Aux losses are smoothed (without StyleRef, the total is shown too); validation loss is not, and has dots.
    """
    series = {
        name: _finite(rows, key)
        for key, name in (("instance_loss", "StyleRef"), ("aux_loss", "Aux"), ("loss", "total"), ("validation_loss", "validation"))
    }
    if series["StyleRef"]:
        series.pop("total")
    drawn = {name: points if name == "validation" else _smooth(points) for name, points in series.items() if points}
    everything = [point for points in drawn.values() for point in points]
    if not everything:
        return ""
    x_axis, y_axis = (axis(values, from_zero=True) for values in zip(*everything, strict=True))
    frame = Frame(_WIDTH, _HEIGHT, (60, 24, 14, 50), x_axis, y_axis)
    parts = [frame.grid(), f'<text x="60" y="{_HEIGHT - 4}">training step</text>']
    for name, points in drawn.items():
        css = f"s-{name.lower()}"
        spots = [frame.at(*point) for point in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<path class="line {css}" d="{path}"/>')
        if name == "validation":
            parts += [f'<circle class="dot {css}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in spots]
    label = "Loss by training step: " + ", ".join(f"{name} ends at {points[-1][1]:.3f}" for name, points in drawn.items())
    legend = "".join(f'<span class="key s-{name.lower()}">{escape(name)}</span>' for name in drawn)
    svg = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    return f'{svg}<p class="legend">{legend}</p>'


def interval_bars(style: dict[str, Any], base: dict[str, Any], scale: float = 1.0) -> str:
    """SVG of two estimates with their intervals on one axis, style above base; the axis includes zero if that is not far off."""
    low, high = min(style["low"], base["low"]) * scale, max(style["high"], base["high"]) * scale
    if 0 < low < 0.5 * high:
        low = 0.0
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return 6 + (value * scale - low) / span * 128

    marks = []
    for css, y, estimate in (("s-style", 7, style), ("s-base", 19, base)):
        marks.append(f'<path class="line {css}" d="M{at(estimate["low"]):.1f} {y}H{at(estimate["high"]):.1f}"/>')
        marks.append(f'<circle class="dot {css}" cx="{at(estimate["value"]):.1f}" cy="{y}" r="4"/>')
    return f'<svg class="bars" viewBox="0 0 140 26" aria-hidden="true">{"".join(marks)}</svg>'


def _finite(rows: Sequence[dict[str, Any]], key: str) -> list[Point]:
    return [(float(r["step"]), float(r[key])) for r in rows if isinstance(r.get(key), int | float) and math.isfinite(r[key])]


def _smooth(points: list[Point]) -> list[Point]:
    """Means over equal runs of steps, at most _MAX_POINTS: single steps sample single noise levels, so one step's loss tells little."""
    width = max(1, len(points) // 40, math.ceil(len(points) / _MAX_POINTS))
    runs = [points[start : start + width] for start in range(0, len(points), width)]
    return [(run[-1][0], sum(y for _, y in run) / len(run)) for run in runs]


def axis(values: Sequence[float], from_zero: bool) -> list[float]:
    """Round tick values whose range covers all ``values``."""
    low, high = (min(0.0, *values), max(values)) if from_zero else (min(values), max(values))
    if high <= low:
        high = low + 1.0
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first = math.floor(low / step)
    return [round((first + index) * step, 10) for index in range(math.ceil((high - first * step) / step - 1e-9) + 1)]


_AXES = {"step": "training step", "guidance": "guidance", "style_guidance": "guidance of the style"}


def choice_curve(
    rows: Sequence[Mapping[str, Any]], x: str, metric: Metric, limit: float | None = None, *, best: float | None = None
) -> str:
    """SVG of one score of the options over ``x`` (``step`` or a scale), with intervals; the chosen one is ringed, a limit dashed.

    ``best`` is the value of the best option, which need not be among ``rows``. If it is given, its level is a dashed line too, and
    intervals are those of the difference from it.
    """
    points = [
        (float(row[x]), row["scores"][metric.key] if best is None else _from_best(best, row, metric), bool(row["chosen"])) for row in rows
    ]
    ends = [score[end] * metric.factor for _, score, _ in points for end in ("low", "high", "value")]
    lines = [] if limit is None else [limit * metric.factor]
    lines += [] if best is None else [best * metric.factor]
    places = [place for place, _, _ in points]
    frame = Frame(_WIDTH, _HEIGHT, (60, 24, 14, 50), axis([*places, *([0.0] if x == "step" else [])], False), axis([*ends, *lines], False))
    parts = [frame.grid(), f'<text x="60" y="{_HEIGHT - 4}">{_AXES[x]}</text>']
    for value in lines:
        _, y = frame.at(frame.x_axis[0], value)
        parts.append(f'<path class="line dashed s-base" d="M60 {y:.1f}H{_WIDTH - 24}"/>')
    spots = [frame.at(place, score["value"] * metric.factor) for place, score, _ in points]
    parts.append('<path class="line s-style" d="M' + "L".join(f"{across:.1f} {down:.1f}" for across, down in spots) + '"/>')
    for (place, score, chosen), (across, down) in zip(points, spots, strict=True):
        (_, low), (_, high) = (frame.at(place, score[end] * metric.factor) for end in ("low", "high"))
        parts.append(f'<path class="line thin s-style" d="M{across:.1f} {low:.1f}V{high:.1f}"/>')
        parts.append(f'<circle class="dot s-style" cx="{across:.1f}" cy="{down:.1f}" r="4"/>')
        if chosen:
            parts.append(f'<circle class="ring s-style" cx="{across:.1f}" cy="{down:.1f}" r="9"/>')
    told = ", ".join(f"{place:g}: {metric.text(score['value'])}{' (chosen)' if chosen else ''}" for place, score, chosen in points)
    label = escape(f"{metric.label} by {x}: {told}")
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _from_best(best: float, row: Mapping[str, Any], metric: Metric) -> dict[str, float]:
    """A row's score with the interval of its difference from the best."""
    ends = [best + (1.0 if metric.lower else -1.0) * float(row["behind"][end]) for end in ("low", "high")]
    return {"value": float(row["scores"][metric.key]["value"]), "low": min(ends), "high": max(ends)}
