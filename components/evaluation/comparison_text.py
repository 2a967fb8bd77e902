"""The result of a comparison as text: what the page, the Markdown and the command line share."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.core.comparison import ALL_STYLES
from components.core.metrics import HYPERVOLUME, MAIN, MEASURES, SPECS

Result = Mapping[str, Any]
_CSV = ("variant", "style", "seed", "steps", "status")
_CSV_COSTS = ("seconds", "selection_seconds", "peak_memory_bytes", "saved_bytes", "device")


@dataclass(frozen=True)
class Number:
    """A table entry: mean, the figure after ± (empty for one seed), rank (best, second or empty), and a note if seeds are missing."""

    text: str
    interval: str = ""
    rank: str = ""
    note: str = ""


Row = tuple[str, list[Number | None]]
"""A row of a table: its label and entries; None stands for cells that failed."""


def entry(entries: Mapping[str, Any], column: str, metric: str, ranks: Mapping[str, Any] | None, name: str) -> Number | None:
    """One table entry; None if no cell finished, a dash for the mean over styles if only some did."""
    found = entries.get(column)
    if found is None:
        return Number("–", note="incomplete") if column == ALL_STYLES and entries else None
    rank = next((key for key, best in (ranks or {}).get(column, {}).items() if best == name), "")
    half, spec = found["half_width"], SPECS[metric]
    interval = "" if half is None else spec.text(half, like=found["mean"])
    note = f"{found['n']} of {found['asked']} seeds" if found["n"] < found["asked"] else ""
    return Number(spec.text(found["mean"]), interval, rank, note)


def base_entry(result: Result, column: str, metric: str) -> Number | None:
    """The untouched base's entry in a table."""
    return entry(result["base"][metric], column, metric, None, "")


def variant_entries(result: Result, group: Mapping[str, Any], name: str) -> list[Number | None]:
    """A variant's entries for the scores of :func:`overview`, in the last column: the mean over styles, or the only style."""
    column = columns(result)[-1]
    found = group["metrics"]
    return [entry(found[metric]["rows"][name], column, metric, found[metric]["ranks"], name) for metric in overview(result)]


def overview(result: Result) -> list[str]:
    """The scores in the table over all styles; most measures are left out to keep it readable."""
    return [metric for metric in measured(result) if metric not in MEASURES or metric in ("style_score", "copies")]


def measured(result: Result) -> list[str]:
    """The scores of this comparison, in the order of tables."""
    return list(result["base"])


def front_rows(result: Result) -> list[dict[str, Any]]:
    """For each method drawn at several guidances, the area that it dominates and its points, the nearest to the style first."""
    column, names, found = columns(result)[-1], labels(result), []
    for front in result.get("fronts", []):
        points = [
            {
                "guidance": "its own" if point["guidance"] is None else f"{point['guidance']:g}", "best": point["best"],
                **{key: SPECS[key].text(point[key]) for key in MAIN},
            }
            for point in front["points"]
        ]  # fmt: skip
        area = entry(front["area"], column, HYPERVOLUME, None, "")
        found.append({"label": names[front["method"]], "area": area, "points": points})
    return found


def style_tables(result: Result) -> list[tuple[str, Mapping[str, Any], Sequence[str], bool]]:
    """Title, group and scores of each table by style, and whether the base is in it.

    There is one table for the methods, if there are several styles, and one for each ablation.
    """
    methods, *ablations = result["tables"]
    found = [("By style", methods, measured(result), True)] if len(result["styles"]) > 1 else []
    return [*found, *((f"Ablation: {group['name']}", group, MAIN, False) for group in ablations)]


def style_rows(result: Result, group: Mapping[str, Any], metric: str, *, base: bool) -> tuple[list[str], list[Row]]:
    """The columns of a table by style that any variant has, and its rows; the mean over styles is shown only if it covers several."""
    names, found = labels(result), group["metrics"][metric]
    known = [column for column in columns(result) if any(column in row for row in found["rows"].values())]
    shown = [column for column in known if column != ALL_STYLES or len(known) > 2]
    rows: list[Row] = [("untouched base", [base_entry(result, column, metric) for column in shown])] if base else []
    for name in group["variants"]:
        rows.append((names[name], [entry(found["rows"][name], column, metric, found["ranks"], name) for column in shown]))
    return ["all styles" if column == ALL_STYLES else column for column in shown], rows


def columns(result: Result) -> list[str]:
    """The columns of a table by style: each style, and their mean where there are several."""
    styles = list(result["styles"])
    return [*styles, ALL_STYLES] if len(styles) > 1 else styles


def labels(result: Result) -> dict[str, str]:
    """Label of each variant."""
    return {item["name"]: item["label"] for item in result["variants"]}


def cost_texts(result: Result, name: str) -> dict[str, str]:
    """Training seconds, peak memory and saved megabytes of a variant, as text; selection seconds too if any variant has them."""
    cost = result["costs"][name]
    largest = max((item["saved_bytes"] or 0 for item in result["costs"].values()), default=0)
    saved = cost["saved_bytes"]
    selected = any(item.get("selection_seconds") is not None for item in result["costs"].values())
    selection = cost.get("selection_seconds")
    share = f" ({100 * saved / largest:.1f} %)" if saved and largest and saved < largest else ""
    return {
        "training s": "–" if cost["seconds"] is None else f"{cost['seconds']:.0f}",
        **({"selection s": "–" if selection is None else f"{selection:.0f}"} if selected else {}),
        "peak MB": "–" if cost["peak_memory_bytes"] is None else f"{cost['peak_memory_bytes'] / 1e6:.0f}",
        "saved MB": "–" if saved is None else f"{saved / 1e6:.2f}{share}" if saved < 1e7 else f"{saved / 1e6:.1f}{share}",
    }


def claim_figures(claim: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    """By how much one variant is better or worse than the other: ``KID × 10³ lower by 12.3 (4.1 to 20.4)``."""
    metric, decision = SPECS[claim["metric"]], pair["decision"]
    ends = [decision[key] for key in ("advantage", "low", "high")]
    better, worse = metric.better, metric.worse
    if claim["margin"]:
        better, worse = f"inside the margin of {100 * claim['margin']:.0f} %", "outside of the margin"
    if decision["advantage"] < 0:
        ends = [-decision[key] for key in ("advantage", "high", "low")]
    value, low, high = (metric.text(end, like=decision["advantage"]) for end in ends)
    return f"{metric.label} {worse if decision['advantage'] < 0 else better} by {value} ({low} to {high})"


def claim_note(result: Result, claim: Mapping[str, Any]) -> str:
    """What to know besides the verdict: what would decide the claim, and which variation the interval does not cover."""
    names = labels(result)
    parts = []
    if claim["missing"]:
        parts.append(f"not decided against {', '.join(names[name] for name in claim['missing'])}: cells are missing.")
    elif claim["verdict"] == "undecided" and claim["seeds_needed"]:
        parts.append(f"About {claim['seeds_needed']} seeds would decide it, if the advantage stays what it is; there are {claim['seeds']}.")
    elif claim["verdict"] == "undecided":
        parts.append("No number of seeds in reach would decide it: the two are alike.")
    if claim["seeds"] == 1:
        parts.append("With one seed the interval holds the chance of prompts and images, not that of training.")
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def summary(result: Result) -> str:
    """One sentence on the outcome: the cells that finished, and the verdicts on the claims."""
    cells, failed = result["cells"], len(failed_cells(result))
    counts = {verdict: sum(claim["verdict"] == verdict for claim in result["claims"]) for verdict in ("held", "not held", "undecided")}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    text = f"{len(cells) - failed} of {len(cells)} cells finished"
    return f"{text}; claims: {said}." if said else f"{text}."


def equal_text(result: Result) -> str:
    """What was kept equal for all methods, in words."""
    if result["equal"] == "compute":
        return "Equal compute: as many images through the denoiser, forward and backward, for each; steps differ."
    return "Equal steps: as many optimizer steps for each; a step with Aux images costs more than one without."


def intervals_text(result: Result) -> str:
    """What the figure after ± is, in words."""
    seeds = len(result["seeds"])
    if seeds == 1:
        return "One seed: no interval can be given."
    return f"Mean over {seeds} seeds ± {100 * result['confidence']:.0f} % t-interval."


def csv_text(result: Result) -> str:
    """CSV with one row per variant, style and seed: scores with their intervals, costs, and the reason for a failure."""
    scores = [f"{metric}{part}" for metric in measured(result) for part in ("", "_low", "_high")]
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
