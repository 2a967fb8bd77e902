"""The result of a comparison in words and numbers for people: what the page, the Markdown and the command line share."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.core.comparison import ALL_STYLES, LOWER_IS_BETTER

Result = Mapping[str, Any]
LABELS = {"kid": "KID ×10³", "fid": "FID", "clip_t": "CLIP-T", "clip_i": "CLIP-I"}
_FACTOR = {"kid": 1000.0}
_CSV = ("variant", "style", "seed", "steps", "status")
_CSV_COSTS = ("seconds", "peak_memory_bytes", "saved_bytes", "device")


@dataclass(frozen=True)
class Number:
    """One entry of a table: ``text`` is the mean, ``interval`` what stands behind ± (empty for one seed), ``rank`` best, second or empty.

    ``note`` says how many seeds there are where some are missing.
    """

    text: str
    interval: str = ""
    rank: str = ""
    note: str = ""


def arrow(metric: str) -> str:
    """Which way is better."""
    return "↓" if metric in LOWER_IS_BETTER else "↑"


def number_text(metric: str, value: float, like: float | None = None) -> str:
    """A score for people: KID ×10³; about three significant digits, with as many decimals as ``like`` would get."""
    factor = _FACTOR.get(metric, 1.0)
    size = abs((value if like is None else like) * factor)
    decimals = 2 if metric.startswith("clip") else 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value * factor:.{decimals}f}".replace("-", "−")


def score_text(metric: str, score: Mapping[str, Any] | None) -> str:
    """A score with the ends of its interval in brackets, in the units that people read; a dash where there is none."""
    if not score or score.get("value") is None:
        return "–"
    value, low, high = score["value"], score.get("low"), score.get("high")
    text = number_text(metric, value)
    if low is None or high is None:
        return text
    return f"{text} ({number_text(metric, low, like=value)} to {number_text(metric, high, like=value)})"


def entry(entries: Mapping[str, Any], column: str, metric: str, ranks: Mapping[str, Any] | None, name: str) -> Number | None:
    """One entry of a table; None where no cell finished, a dash for the mean over styles where some did."""
    found = entries.get(column)
    if found is None:
        return Number("–", note="incomplete") if column == ALL_STYLES and entries else None
    rank = next((key for key, best in (ranks or {}).get(column, {}).items() if best == name), "")
    half = found["half_width"]
    interval = "" if half is None else number_text(metric, half, like=found["mean"])
    note = f"{found['n']} of {found['asked']} seeds" if found["n"] < found["asked"] else ""
    return Number(number_text(metric, found["mean"]), interval, rank, note)


def columns(result: Result) -> list[str]:
    """The columns of a table by style: each style, and their mean where there are several."""
    styles = list(result["styles"])
    return [*styles, ALL_STYLES] if len(styles) > 1 else styles


def shown_columns(result: Result, rows: Mapping[str, Any]) -> list[str]:
    """The columns that any row of a table has; the mean over styles only where it is of several."""
    found = [column for column in columns(result) if any(column in row for row in rows.values())]
    return [column for column in found if column != ALL_STYLES or len(found) > 2]


def column_title(column: str) -> str:
    """What a column is called."""
    return "all styles" if column == ALL_STYLES else column


def labels(result: Result) -> dict[str, str]:
    """Label of each variant."""
    return {item["name"]: item["label"] for item in result["variants"]}


def cost_texts(result: Result, name: str) -> dict[str, str]:
    """Seconds, peak memory and saved megabytes of a variant, as text."""
    cost = result["costs"][name]
    largest = max((item["saved_bytes"] or 0 for item in result["costs"].values()), default=0)
    saved = cost["saved_bytes"]
    share = f" ({100 * saved / largest:.1f} %)" if saved and largest and saved < largest else ""
    return {
        "training s": "–" if cost["seconds"] is None else f"{cost['seconds']:.0f}",
        "peak MB": "–" if cost["peak_memory_bytes"] is None else f"{cost['peak_memory_bytes'] / 1e6:.0f}",
        "saved MB": "–" if saved is None else f"{saved / 1e6:.2f}{share}" if saved < 1e7 else f"{saved / 1e6:.1f}{share}",
    }


def advantage_text(claim: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    """By how much the one is better or worse: ``lower by 12.3 (4.1 to 20.4)``."""
    metric = claim["metric"]
    ends = [decision[key] for key in ("advantage", "low", "high")]
    better, worse = ("lower", "higher") if metric in LOWER_IS_BETTER else ("higher", "lower")
    if claim["margin"]:
        better, worse = f"inside the margin of {100 * claim['margin']:.0f} %", "outside of the margin"
    if decision["advantage"] < 0:
        ends = [-decision[key] for key in ("advantage", "high", "low")]
    value, low, high = (number_text(metric, end, like=decision["advantage"]) for end in ends)
    return f"{worse if decision['advantage'] < 0 else better} by {value} ({low} to {high})"


def claim_note(result: Result, claim: Mapping[str, Any]) -> str:
    """What has to be known besides the verdict: what would decide it, and what the interval does not hold."""
    names = labels(result)
    parts = []
    if claim["missing"]:
        parts.append(f"not decided against {', '.join(names[name] for name in claim['missing'])}: cells are missing.")
    elif claim["verdict"] == "undecided" and claim["seeds_needed"]:
        parts.append(f"About {claim['seeds_needed']} seeds would decide it, if the advantage stays what it is; there are {claim['seeds']}.")
    elif claim["verdict"] == "undecided":
        parts.append("No number of seeds in reach would decide it: the two are alike.")
    if claim["seeds"] == 1:
        parts.append("With one seed the interval holds the chance of prompts and pictures, not that of training.")
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def summary(result: Result) -> str:
    """One sentence on what came of it."""
    cells = result["cells"]
    failed = sum(cell["status"] == "failed" for cell in cells)
    counts = {verdict: sum(claim["verdict"] == verdict for claim in result["claims"]) for verdict in ("held", "not held", "undecided")}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    text = f"{len(cells) - failed} of {len(cells)} cells finished"
    return f"{text}; claims: {said}." if said else f"{text}."


def equal_text(result: Result) -> str:
    """What all methods got the same of."""
    if result["equal"] == "compute":
        return "Equal compute: as many pictures through the UNet, forward and backward, for each; steps differ."
    return "Equal steps: as many optimizer steps for each; a step with Aux pictures costs more than one without."


def intervals_text(result: Result) -> str:
    """What stands behind ±."""
    seeds = len(result["seeds"])
    if seeds == 1:
        return "One seed: no interval can be given."
    return f"Mean over {seeds} seeds ± {100 * result['confidence']:.0f} % t-interval."


def markdown(result: Result, *, wall: str | None = None, plot: str | None = None) -> str:
    """The whole result as Markdown: summary, claims, tables by style, ablations, failures.

    Args:
        result: of :func:`components.evaluation.comparison.compare`.
        wall: link to the picture wall.
        plot: link to the trade-off plot.
    """
    context = result["context"]
    lines = [f"# {result['name']}", "", summary(result), "", f"{equal_text(result)} {intervals_text(result)}"]
    if context:
        lines += [
            f"Extractor {context['extractor']}, {context['reference_n']} reference pictures a style, "
            f"{context['pictures']['style']} pictures a cell."
        ]
    lines += ["", *_summary_table(result), "", "**Best** and <u>second</u> of each column.", ""]
    lines += [f"![Trade-off of KID and CLIP-T]({plot})", ""] if plot else []
    if result["claims"]:
        lines += ["## Claims", "", *_claims_table(result), ""]
    for place, group in enumerate(result["tables"]):
        if place == 0 and len(result["styles"]) == 1:
            continue
        lines += ["## By style" if place == 0 else f"## Ablation: {group['name']}", ""]
        for metric in LABELS if place == 0 else ("kid", "clip_t"):
            lines += [f"### {LABELS[metric]} {arrow(metric)}", "", *_style_table(result, group, metric, base=place == 0), ""]
    lines += ["## Picture wall", "", f"![Prompts by method]({wall})", ""] if wall else []
    failed = [cell for cell in result["cells"] if cell["status"] == "failed"]
    if failed:
        lines += ["## Failed cells", "", "| variant | style | seed | reason |", "| --- | --- | --- | --- |"]
        lines += [_line(", ".join(cell["variants"]), cell["style"], str(cell["seed"]), cell["error"] or "") for cell in failed] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _summary_table(result: Result) -> list[str]:
    names, group = labels(result), result["tables"][0]
    column = columns(result)[-1]
    costs = list(cost_texts(result, group["variants"][0]))
    head = ["method", *(f"{label} {arrow(metric)}" for metric, label in LABELS.items()), *costs]
    rows = [_line(*head), _line(*["---"] * len(head))]
    base = [_markdown_number(entry(result["base"][metric], column, metric, None, "")) for metric in LABELS]
    rows.append(_line("untouched base", *base, *["–"] * len(costs)))
    for name in group["variants"]:
        tables = group["metrics"]
        found = [entry(tables[metric]["rows"][name], column, metric, tables[metric]["ranks"], name) for metric in LABELS]
        rows.append(_line(names[name], *(_markdown_number(item) for item in found), *cost_texts(result, name).values()))
    return rows


def _style_table(result: Result, group: Mapping[str, Any], metric: str, *, base: bool) -> list[str]:
    names, found = labels(result), group["metrics"][metric]
    shown = shown_columns(result, found["rows"])
    rows = [_line("", *(column_title(column) for column in shown)), _line(*["---"] * (len(shown) + 1))]
    if base:
        rows.append(
            _line("untouched base", *(_markdown_number(entry(result["base"][metric], column, metric, None, "")) for column in shown))
        )
    for name in group["variants"]:
        entries = (entry(found["rows"][name], column, metric, found["ranks"], name) for column in shown)
        rows.append(_line(names[name], *(_markdown_number(item) for item in entries)))
    return rows


def _claims_table(result: Result) -> list[str]:
    names = labels(result)
    rows = ["| claim | verdict | figures | |", "| --- | --- | --- | --- |"]
    for claim in result["claims"]:
        label = LABELS[claim["metric"]]
        decided = [pair for pair in claim["pairs"] if pair["decision"]]
        figures = [f"beside {names[pair['than']]}: {label} {advantage_text(claim, pair['decision'])}" for pair in decided]
        rows.append(_line(claim["name"], f"**{claim['verdict']}**", "<br>".join(figures) or "–", claim_note(result, claim)))
    return rows


def _markdown_number(number: Number | None) -> str:
    if number is None:
        return "failed"
    text = {"best": "**{}**", "second": "<u>{}</u>"}.get(number.rank, "{}").format(number.text)
    return text + (f" ± {number.interval}" if number.interval else "") + (f" ({number.note})" if number.note else "")


def _line(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def csv_text(result: Result) -> str:
    """One row a variant, style and seed: scores with their intervals, costs, and the reason of a failure."""
    scores = [f"{metric}{part}" for metric in LABELS for part in ("", "_low", "_high")]
    sink = io.StringIO()
    writer = csv.DictWriter(sink, [*_CSV, *scores, *_CSV_COSTS, "error"], lineterminator="\n")
    writer.writeheader()
    for cell in result["cells"]:
        for name in cell["variants"]:
            writer.writerow({"variant": name, **{key: cell[key] for key in _CSV[1:]}, **_scores(cell), "error": cell["error"] or ""})
    return sink.getvalue()


def _scores(cell: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: (cell.get("cost") or {}).get(key, "") for key in _CSV_COSTS}
    for metric, score in (cell.get("scores") or {}).items():
        row |= {metric: score["value"], f"{metric}_low": score["low"], f"{metric}_high": score["high"]}
    return row


def failed_cells(result: Result) -> Sequence[Mapping[str, Any]]:
    """The cells without a result."""
    return [cell for cell in result["cells"] if cell["status"] == "failed"]
