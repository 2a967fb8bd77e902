"""The trade-off plot: nearness to the style (KID) against how well prompts are followed (CLIP-T), one point per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from components.core.metrics import MAIN, SPECS
from components.evaluation.charts import Frame, axis
from components.evaluation.comparison_text import columns, labels

_WIDTH, _HEIGHT, _LEFT, _TOP = 680, 440, 62, 34
_LETTER, _LINE = 8.4, 16
_AXES = tuple(SPECS[metric] for metric in MAIN)
COLOURS = 8
"""Number of colours in the style sheets (classes ``m0`` …); further methods reuse them."""
_STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff; color: #1d1c22 }
.rule { stroke: #e4e1db } .axis, .hint { fill: #5d5b66; font-size: 12px } .bar { stroke: currentColor; stroke-width: 1.5; opacity: .55 }
.dot { fill: currentColor } .hollow { fill: none; stroke: currentColor; stroke-width: 2 } text { fill: currentColor }
.m0 { color: #8a5a00 } .m1 { color: #b3261e } .m2 { color: #0b6fa4 } .m3 { color: #17794a } .m4 { color: #5b3fd6 } .m5 { color: #b0218a }
.m6 { color: #4a5b6c } .m7 { color: #7a4d00 } .base { color: #77747f }
@media (prefers-color-scheme: dark) {
svg { background: #16151a; color: #eceaf1 } .rule { stroke: #34323d } .axis, .hint { fill: #a9a6b4 }
.m0 { color: #efb54a } .m1 { color: #ff8a80 } .m2 { color: #6cc3f0 } .m3 { color: #5fce93 } .m4 { color: #a893ff } .m5 { color: #f08ad2 }
.m6 { color: #aebccb } .m7 { color: #d6b27a } .base { color: #9a97a5 }
}
"""


@dataclass(frozen=True)
class Point:
    """A method in the plot: KID and CLIP-T as shown, with the half-widths of their intervals (0 where there are none)."""

    label: str
    css: str
    x: float
    y: float
    dx: float
    dy: float
    scores: str


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


def tradeoff(result: Mapping[str, Any], *, standalone: bool = False) -> str:
    """SVG of the methods' means over styles; empty if no method finished. ``standalone`` embeds its own colours, light and dark."""
    points, base = _points(result)
    if not points:
        return ""
    xs = [value for p in points for value in (p.x - p.dx, p.x + p.dx)]
    ys = [value for p in points for value in (p.y - p.dy, p.y + p.dy)]
    x_axis, y_axis = axis(_padded(xs), from_zero=False), axis(_padded(ys), from_zero=False)
    # The untouched base is often far off; it must not squeeze the methods together.
    inside = base is not None and x_axis[0] <= base.x <= x_axis[-1] and y_axis[0] <= base.y <= y_axis[-1]
    drawn = [*points, base] if inside and base else points
    frame = _Frame(_WIDTH, _HEIGHT, (_LEFT, 24, _TOP, 76), x_axis, y_axis)
    parts = [frame.grid(upright=True), *map(frame.bars, drawn), *map(frame.dot, drawn), *frame.names(drawn)]
    parts.append(f'<text class="axis" x="{_LEFT}" y="{_HEIGHT - 30}">{_AXES[0].label} (← nearer to the style)</text>')
    parts.append(f'<text class="axis" x="8" y="16">{_AXES[1].label} (↑ prompts followed better)</text>')
    if base is not None and not inside:
        parts.append(f'<text class="hint" x="{_LEFT}" y="{_HEIGHT - 6}">untouched base, outside: {base.scores}</text>')
    told = "; ".join(f"{point.label}: {point.scores}" for point in drawn)
    head = f'<svg class="chart tradeoff" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(told)}"'
    if not standalone:
        return f"{head}>{''.join(parts)}</svg>"
    size = f' xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}"'
    return f"{head}{size}><style>{_STYLE}</style>{''.join(parts)}</svg>\n"


def _points(result: Mapping[str, Any]) -> tuple[list[Point], Point | None]:
    group, column, names = result["tables"][0], columns(result)[-1], labels(result)
    rows = [group["metrics"][metric.key]["rows"] for metric in _AXES]
    points = [
        _point(names[name], f"m{place % COLOURS}", [row[name][column] for row in rows])
        for place, name in enumerate(group["variants"])
        if column in rows[0][name]
    ]
    base = [result["base"][metric.key].get(column) for metric in _AXES]
    return points, _point("untouched base", "base", base) if all(base) else None


def _point(label: str, css: str, found: Sequence[Mapping[str, Any]]) -> Point:
    x, y = (metric.factor * score["mean"] for metric, score in zip(_AXES, found, strict=True))
    dx, dy = (metric.factor * (score["half_width"] or 0.0) for metric, score in zip(_AXES, found, strict=True))
    scores = ", ".join(f"{metric.label} {metric.text(score['mean'])}" for metric, score in zip(_AXES, found, strict=True))
    return Point(label, css, x, y, dx, dy, scores)


def _padded(values: Sequence[float]) -> list[float]:
    span = (max(values) - min(values)) or abs(values[0]) * 0.2 or 1.0
    return [min(values) - 0.08 * span, max(values) + 0.08 * span]


class _Frame(Frame):
    """The plot's frame; a KID axis that falls to the right would be misread, so better is up and to the left."""

    def ends(self, point: Point) -> tuple[float, float, float, float, float, float]:
        """x and y of the point, and left, right, top and bottom of its bars."""
        (left, top), (right, bottom) = self.at(point.x - point.dx, point.y + point.dy), self.at(point.x + point.dx, point.y - point.dy)
        return *self.at(point.x, point.y), left, right, top, bottom

    def bars(self, point: Point) -> str:
        if not point.dx and not point.dy:
            return ""
        x, y, left, right, top, bottom = self.ends(point)
        return f'<path class="bar {point.css}" d="M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {top:.1f}V{bottom:.1f}"/>'

    def marks(self, point: Point) -> list[_Box]:
        """The boxes that the point and its bars cover."""
        x, y, left, right, top, bottom = self.ends(point)
        return [_Box(x - 8, y - 8, x + 8, y + 8), _Box(left, y - 1, right, y + 1), _Box(x - 1, top, x + 1, bottom)]

    def dot(self, point: Point) -> str:
        x, y = self.at(point.x, point.y)
        return f'<circle class="{"hollow" if point.css == "base" else "dot"} {point.css}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'

    def names(self, points: Sequence[Point]) -> list[str]:
        """The labels, each at the first place beside its point that is free of points and other labels."""
        taken = [box for point in points for box in self.marks(point)]
        texts = []
        for point in points:
            x, y = self.at(point.x, point.y)
            others = [box for box in taken if box not in self.marks(point)[:1]]
            places = list(_places(x, y, len(point.label) * _LETTER))
            inside = [place for place in places if place.left > 4 and place.right < _WIDTH - 4 and place.top > _TOP - 8] or places
            box = next((place for place in inside if not any(place.meets(other) for other in others)), inside[0])
            taken.append(box)
            texts.append(f'<text class="{point.css}" x="{box.left:.1f}" y="{box.bottom - 4:.1f}">{escape(point.label)}</text>')
        return texts


def _places(x: float, y: float, width: float) -> list[_Box]:
    corners = [
        (x + 11, y - _LINE / 2), (x - 11 - width, y - _LINE / 2), (x - width / 2, y - 11 - _LINE), (x - width / 2, y + 11),
        (x + 8, y - 8 - _LINE), (x + 8, y + 8), (x - 8 - width, y - 8 - _LINE), (x - 8 - width, y + 8),
        (x - width / 2, y - 26 - _LINE), (x - width / 2, y + 26),
    ]  # fmt: skip
    return [_Box(left, top, left + width, top + _LINE) for left, top in corners]
