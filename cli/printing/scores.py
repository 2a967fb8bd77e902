"""How results look to people: short tables on stdout."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.core.metrics import MAIN, SPECS, Metric, scores_in

if TYPE_CHECKING:
    from components.bases.check import Bar
    from components.core.checks import Check
    from components.evaluation.comparison_text import Number
    from orchestration.outcome import RunResult
    from runs.comparison import CompareResult


def say(*lines: str | Text | Table) -> None:
    """Print lines where results are printed."""
    # Without a terminal rich would wrap at 80 columns and cut paths in two.
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    for line in lines:
        console.print(Text(line) if isinstance(line, str) else line)


def print_table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a table without lines; cells are str or Text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for cells in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    say(table)


def mark(good: bool, needed: bool = True) -> Text:
    """A tick, a cross, or where it is only advice an exclamation mark."""
    return Text("✓", "green") if good else Text("✗", "red") if needed else Text("!", "yellow")


def print_result(result: RunResult) -> None:
    """The scores beside the base's, the registered model, and where the report is."""
    both = (result.scores or {}, result.base_scores or {})
    rows = ([SPECS[key].title, *(_score(SPECS[key], scores.get(key)) for scores in both)] for key in scores_in(both[0]))
    print_table(("", "style", "base"), rows)
    if result.context.get("reference") == "style_ref":
        say("No reference images were held out: FID and KID rest on the StyleRef images themselves.")
    if result.examination:
        say(f"what limits it: {result.examination['limit']}")
    model = result.model or {}
    say(
        f"model   {model.get('name')} version {model.get('version')} @{model.get('alias')}",
        f"report  {result.report}",
        f"done in {result.total_seconds:.0f} s; {len(result.cached)} of {len(result.seconds)} steps from the cache",
    )


def _score(metric: Metric, score: Mapping[str, Any] | None) -> str:
    if not score or score.get("value") is None:
        return "–"
    text = metric.exact(score["value"])
    if score.get("low") is not None and score.get("high") is not None:
        text += f"  ({metric.exact(score['low'])} to {metric.exact(score['high'])})"
    return text


def print_comparison(compared: CompareResult) -> None:
    """The methods with their scores and costs, the claims, the failed cells, and where the files are."""
    from components.evaluation import comparison_text as words

    result = compared.result
    group, names, rows = result["tables"][0], words.labels(result), []
    for name in group["variants"]:
        entries, costs = words.variant_entries(result, group, name), words.cost_texts(result, name)
        rows.append([names[name], *map(_entry, entries), costs["training s"], costs["saved MB"]])
    print_table(("method", *(SPECS[metric].title for metric in words.overview(result)), "training s", "saved MB"), rows)
    for claim in result["claims"]:
        sign = Text("?", "yellow") if claim["verdict"] == "undecided" else mark(claim["verdict"] == "held")
        say(Text.assemble(sign, f" {claim['name']}: {claim['verdict']}. {words.claim_note(result, claim)}".rstrip()))
    for cell in compared.failed:
        where = f"{', '.join(cell['variants'])}, {cell['style']}, seed {cell['seed']}"
        say(Text.assemble(("failed", "red"), f"  {where}: {cell['error']}"))
    say(
        f"report  {compared.files.get('comparison.html')}",
        f"done in {compared.total_seconds:.0f} s; {compared.cached} of {compared.steps} steps from the cache",
    )


def _entry(entry: Number | None) -> Text:
    if entry is None:
        return Text("failed", "red")
    style = {"best": "bold", "second": "underline"}.get(entry.rank, "")
    return Text.assemble((entry.text, style), f" ± {entry.interval}" if entry.interval else "")


def print_validation(outcome: Mapping[str, Any]) -> None:
    """Every rule with its verdict, and each file at fault."""
    for rule in outcome["rules"]:
        say(Text.assemble(mark(rule["passed"], rule["severity"] == "hard"), f" {rule['name']}: {rule['message']}"))
        say(*(f"    {failure['path']}: {failure['reason']}" for failure in rule["failures"]))
    if examination := outcome["examination"]:
        _print_examination(examination)
    if outcome["memory"]:
        say(Text.assemble(mark(True), f" memory: {outcome['memory']}"))
    verdict = "fit for training" if outcome["status"] == "completed" else "refused: fix the files above, then run again"
    say(f"{verdict}; page: {outcome['page']}")


def _print_examination(examination: Mapping[str, Any]) -> None:
    """Each question about the set with its figure and what to do."""
    from components.evaluation.examination import figure_text

    for finding in examination["findings"]:
        sign = Text("·") if finding["good"] is None else mark(finding["good"], needed=False)
        say(Text.assemble(sign, f" {finding['question']} {finding['says']} [{figure_text(finding)}]"))
        if finding["advice"]:
            say(f"    {finding['advice']}")
        say(*(f"    {named['path']}: {named['note']}" for named in finding["pictures"]))
    say(f"examination  {examination['page']}")


def print_models(rows: Sequence[Mapping[str, Any]]) -> None:
    """The registered versions with their scores."""
    if not rows:
        say("no models are registered yet; `styleforge run CONFIG` makes the first")
        return
    lines = []
    for row in rows:
        tags = row["tags"]
        scores = [SPECS[metric].exact(float(tags[metric])) if metric in tags else "–" for metric in MAIN]
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"] / 1000))
        aliases = ", ".join(row["aliases"])
        lines.append([row["name"], row["version"], aliases, *scores, tags.get("method", ""), tags.get("base", ""), created])
    print_table(("model", "version", "alias", *(SPECS[metric].label for metric in MAIN), "method", "base", "created"), lines)


def print_words(outcome: Mapping[str, Any]) -> None:
    """The words of an explained prompt with their figures, and where the pictures are."""
    say(outcome["full_prompt"])
    rows = [
        [word["word"], *(f"{100 * word[key]:.1f} %" for key in ("share", "lowest", "highest")), f"{100 * word['breadth']:.0f} %"]
        for word in outcome["words"]
    ]
    print_table(("word", "share", "lowest", "highest", "breadth"), rows)
    say(f"sheet   {outcome['sheet']}", f"folder  {outcome['folder']}")


def print_checks(checks: Sequence[Check]) -> None:
    """A line a check, with what to do where it failed."""
    rows = ([mark(check.ok, check.needed), check.name, check.detail, check.remedy] for check in checks)
    print_table(("", "check", "found", "what to do"), rows)


def print_bars(bars: Sequence[Bar]) -> None:
    """Each quality figure beside the bar that it must reach."""
    rows = []
    for bar in bars:
        sign, limit = (Text("·"), "") if bar.bar is None else (mark(bar.passed), f"{bar.bar:.0f} {bar.unit}")
        rows.append([sign, bar.name, f"{bar.value:.1f} {bar.unit}", limit, str(bar.n)])
    print_table(("", "figure", "value", "bar", "n"), rows)
