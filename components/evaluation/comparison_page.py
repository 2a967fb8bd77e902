"""The page, tables and pictures of a comparison: HTML that loads nothing from the network, Markdown, CSV, JSON, wall and plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.comparison import CompareConfig
from components.core.images import load_rgb
from components.core.metrics import SPECS
from components.core.pages import thumbnail, write_page
from components.core.paths import write_json, write_text
from components.evaluation import comparison_text as text
from components.evaluation.comparison import Outcome, compare
from components.evaluation.grid import WallRow, picture_wall
from components.evaluation.record import Record
from components.evaluation.report import TEMPLATES
from components.evaluation.tradeoff import tradeoff

PAGE, MARKDOWN, TABLE, RESULT, WALL, PLOT = (
    "comparison.html", "comparison.md", "comparison.csv", "comparison.json", "wall.png", "tradeoff.svg",
)  # fmt: skip
_THUMBNAIL = 192
_LEAST_ROWS = 2
"""Least number of rows for a style on the wall, however many styles there are."""


def render_comparison(out: Path, config: CompareConfig, outcomes: Sequence[Outcome], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate a comparison and write its page, Markdown, CSV, JSON, wall and plot into ``out``; the last two only if any cell finished.

    ``settings`` are those of the run that all cells start from. Returns the content of ``comparison.json``; the same cells give the same
    bytes.
    """
    out.mkdir(parents=True, exist_ok=True)
    result = compare(config, outcomes)
    wall = _wall(config, outcomes)
    write_json(out / RESULT, result)
    if wall:
        columns = ["base", *(variant.title for variant in config.methods)]
        picture_wall(columns, wall, out / WALL)
    if plot := tradeoff(result, standalone=True):
        write_text(out / PLOT, plot)
    write_text(out / TABLE, text.csv_text(result))
    page = _page(config, result, wall, settings)
    for name in (MARKDOWN, PAGE):
        write_page(out / name, TEMPLATES / f"{name}.j2", page)
    return result


def _wall(config: CompareConfig, outcomes: Sequence[Outcome]) -> dict[str, list[WallRow]]:
    """The rows of each style: the base's picture, then every method's, all from the first seed that any method finished."""
    rows = max(_LEAST_ROWS, config.wall // len(config.styles))
    wall = {}
    for style in config.styles:
        records = _first_records(config, outcomes, style.name)
        whole = next((record for record in records if record is not None), None)
        if whole is not None:
            wall[style.name] = [
                WallRow(shown.prompt, [shown.base, *(record.wall[place].style if record else None for record in records)])
                for place, shown in enumerate(whole.wall[:rows])
            ]
    return wall


def _first_records(config: CompareConfig, outcomes: Sequence[Outcome], style: str) -> list[Record | None]:
    for seed in config.seeds:
        found = {
            name: outcome.record for outcome in outcomes for name in outcome.variants if (outcome.style, outcome.seed) == (style, seed)
        }
        if any(found.get(variant.name) for variant in config.methods):
            return [found.get(variant.name) for variant in config.methods]
    return []


def _page(
    config: CompareConfig, result: Mapping[str, Any], wall: Mapping[str, Sequence[WallRow]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    names = text.labels(result)
    return {
        "result": result,
        "summary": text.summary(result),
        "equal": text.equal_text(result),
        "intervals": text.intervals_text(result),
        "columns": [SPECS[metric].title for metric in text.overview(result)],
        "overview": _overview(result),
        "plot": tradeoff(result),
        "fronts": text.front_rows(result),
        "claims": [_claim(result, claim) for claim in result["claims"]],
        "tables": _tables(result),
        "wall": {style: [_wall_row(row, names, config) for row in rows] for style, rows in wall.items()},
        "failed": text.failed_cells(result),
        "names": names,
        "settings": sorted(settings.items()),
        "variants": [(variant.title, variant.like, variant.set) for variant in config.variants],
        "context": result["context"],
    }


def _overview(result: Mapping[str, Any]) -> dict[str, Any]:
    """The methods over all styles, with their costs."""
    group, column, names = result["tables"][0], text.columns(result)[-1], text.labels(result)
    steps = {item["name"]: item["steps"] for item in result["variants"]}
    rows = [
        {
            "label": names[name], "entries": text.variant_entries(result, group, name), "costs": text.cost_texts(result, name),
            "steps": steps[name],
        }
        for name in group["variants"]
    ]  # fmt: skip
    base = [text.base_entry(result, column, metric) for metric in text.overview(result)]
    return {"rows": rows, "base": base, "costs": list(rows[0]["costs"])}


def _tables(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables by style: the methods' for every score, an ablation's for the main ones."""
    found = []
    for title, group, metrics, base in text.style_tables(result):
        tables = [(SPECS[metric].title, *text.style_rows(result, group, metric, base=base)) for metric in metrics]
        found.append({
            "title": title, "metrics": [{"title": name, "columns": columns, "rows": rows, "base": base} for name, columns, rows in tables],
        })  # fmt: skip
    return found


def _claim(result: Mapping[str, Any], claim: Mapping[str, Any]) -> dict[str, Any]:
    names = text.labels(result)
    ends = [abs(pair["decision"][key]) for pair in claim["pairs"] if pair["decision"] for key in ("low", "high")]
    return {
        "name": claim["name"],
        "verdict": claim["verdict"],
        "tone": {"held": "good", "not held": "bad"}.get(claim["verdict"], "mixed"),
        "note": text.claim_note(result, claim),
        "pairs": [
            {
                "than": names[pair["than"]],
                "figures": text.claim_figures(claim, pair),
                "verdict": pair["decision"]["verdict"],
                "bar": interval_bar(pair["decision"], max(ends)),
                "styles": _style_verdicts(pair["styles"]) if len(result["styles"]) > 1 else "",
            }
            for pair in claim["pairs"]
            if pair["decision"]
        ],
    }


def _style_verdicts(styles: Mapping[str, Any]) -> str:
    by_verdict = {verdict: [name for name, found in styles.items() if found["verdict"] == verdict] for verdict in ("held", "not held")}
    said = [f"{verdict} in {', '.join(found)}" for verdict, found in by_verdict.items() if found]
    return f"alone: {'; '.join(said)}" if said else "alone: undecided in every style"


def interval_bar(decision: Mapping[str, Any], largest: float) -> str:
    """SVG of an interval on an axis with zero in the middle; right of zero supports the claim."""

    def at(value: float) -> float:
        return 100 + 94 * value / (largest or 1.0)

    tone = {"held": "good", "not held": "bad"}.get(decision["verdict"], "mixed")
    line = f'<path class="line t-{tone}" d="M{at(decision["low"]):.1f} 10H{at(decision["high"]):.1f}"/>'
    dot = f'<circle class="dot t-{tone}" cx="{at(decision["advantage"]):.1f}" cy="10" r="4"/>'
    return f'<svg class="interval" viewBox="0 0 200 20" aria-hidden="true"><path class="rule" d="M100 1V19M6 10H194"/>{line}{dot}</svg>'


def _wall_row(row: WallRow, names: Mapping[str, str], config: CompareConfig) -> dict[str, Any]:
    titles = ["base", *(names[variant.name] for variant in config.methods)]
    shown = [thumbnail(load_rgb(path), _THUMBNAIL) if path else None for path in row.pictures]
    return {"caption": row.caption, "pictures": list(zip(titles, shown, strict=True))}
