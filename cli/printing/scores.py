"""How results look to people: short tables on stdout."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.core.checks import Check
from components.core.metrics import MAIN, SCORES, SPECS, Metric
from orchestration.outcome import RunResult

if TYPE_CHECKING:
    from components.evaluation.comparison_text import Number
    from components.pocket.check import Bar
    from runs.comparison import CompareResult


def make_console() -> Console:
    """Where results are printed."""
    # Without a terminal rich would wrap at 80 columns and cut paths in two.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def make_table(*columns: str) -> Table:
    """A table without lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_result(result: RunResult) -> None:
    """The scores beside the base's, the registered model, and where the report is."""
    console = make_console()
    table = make_table("", "style", "base")
    for metric in (SPECS[key] for key in SCORES):
        table.add_row(metric.title, *(_score(metric, (scores or {}).get(metric.key)) for scores in (result.scores, result.base_scores)))
    console.print(table)
    if result.context.get("reference") == "style_ref":
        console.print("No reference pictures were held out: FID and KID rest on the StyleRef pictures themselves.")
    model = result.model or {}
    console.print(Text(f"model   {model.get('name')} version {model.get('version')} @{model.get('alias')}"))
    console.print(Text(f"report  {result.report}"))
    steps = len(result.seconds)
    console.print(Text(f"done in {result.total_seconds:.0f} s; {len(result.cached)} of {steps} steps from the cache"))


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

    console, result = make_console(), compared.result
    group, names = result["tables"][0], words.labels(result)
    table = make_table("method", *(SPECS[metric].title for metric in SCORES), "training s", "saved MB")
    for name in group["variants"]:
        entries, costs = words.variant_entries(result, group, name), words.cost_texts(result, name)
        table.add_row(Text(names[name]), *(_entry(entry) for entry in entries), costs["training s"], costs["saved MB"])
    console.print(table)
    for claim in result["claims"]:
        mark = {"held": Text("✓", "green"), "not held": Text("✗", "red")}.get(claim["verdict"], Text("?", "yellow"))
        console.print(Text.assemble(mark, f" {claim['name']}: {claim['verdict']}. {words.claim_note(result, claim)}".rstrip()))
    for cell in compared.failed:
        console.print(
            Text.assemble(("failed", "red"), f"  {', '.join(cell['variants'])}, {cell['style']}, seed {cell['seed']}: {cell['error']}")
        )
    console.print(Text(f"report  {compared.files.get('comparison.html')}"))
    console.print(Text(f"done in {compared.total_seconds:.0f} s; {compared.cached} of {compared.steps} steps from the cache"))


def _entry(entry: Number | None) -> Text:
    if entry is None:
        return Text("failed", "red")
    style = {"best": "bold", "second": "underline"}.get(entry.rank, "")
    return Text.assemble((entry.text, style), f" ± {entry.interval}" if entry.interval else "")


def print_validation(outcome: Mapping[str, Any]) -> None:
    """Every rule with its verdict, and each file at fault."""
    console = make_console()
    for rule in outcome["rules"]:
        mark, style = ("✓", "green") if rule["passed"] else ("✗", "red") if rule["severity"] == "hard" else ("!", "yellow")
        console.print(Text.assemble((mark, style), f" {rule['name']}: {rule['message']}"))
        for failure in rule["failures"]:
            console.print(Text(f"    {failure['path']}: {failure['reason']}"))
    verdict = "fit for training" if outcome["status"] == "completed" else "refused: fix the files above, then run again"
    console.print(Text(f"{verdict}; page: {outcome['page']}"))


def print_models(rows: Sequence[Mapping[str, Any]]) -> None:
    """The registered versions with their scores."""
    console = make_console()
    if not rows:
        console.print("no models are registered yet; `styleforge run CONFIG` makes the first")
        return
    table = make_table("model", "version", "alias", *(SPECS[metric].label for metric in MAIN), "method", "base", "created")
    for row in rows:
        tags = row["tags"]
        scores = [SPECS[metric].exact(float(tags[metric])) if metric in tags else "–" for metric in MAIN]
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["created"] / 1000))
        identity = (row["name"], row["version"], ", ".join(row["aliases"]))
        table.add_row(*identity, *scores, tags.get("method", ""), tags.get("base", ""), created)
    console.print(table)


def print_words(outcome: Mapping[str, Any]) -> None:
    """The words of an explained prompt with their figures, and where the pictures are."""
    console = make_console()
    table = make_table("word", "share", "lowest", "highest", "breadth")
    for word in outcome["words"]:
        shares = [f"{100 * word[key]:.1f} %" for key in ("share", "lowest", "highest")]
        table.add_row(Text(word["word"]), *shares, f"{100 * word['breadth']:.0f} %")
    console.print(Text(outcome["full_prompt"]))
    console.print(table)
    console.print(Text(f"sheet   {outcome['sheet']}"))
    console.print(Text(f"folder  {outcome['folder']}"))


def print_checks(checks: Sequence[Check]) -> None:
    """A line a check, with what to do where it failed."""
    table = make_table("", "check", "found", "what to do")
    for check in checks:
        mark = Text("✓", "green") if check.ok else Text("✗", "red") if check.needed else Text("!", "yellow")
        table.add_row(mark, check.name, Text(check.detail), Text(check.remedy))
    make_console().print(table)


def print_bars(bars: Sequence[Bar]) -> None:
    """Each quality figure beside the bar that it must reach."""
    table = make_table("", "figure", "value", "bar", "n")
    for bar in bars:
        mark = Text("·") if bar.bar is None else Text("✓", "green") if bar.passed else Text("✗", "red")
        limit = "" if bar.bar is None else f"{bar.bar:.0f} {bar.unit}"
        table.add_row(mark, bar.name, f"{bar.value:.1f} {bar.unit}", limit, str(bar.n))
    make_console().print(table)
