"""How a memory plan looks to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.printing.scores import print_table, say
from components.core.gpus import gigabytes

if TYPE_CHECKING:
    from runs.memory import MemoryVerdict


def print_plan(verdict: MemoryVerdict) -> None:
    """The parts of the base, each step's memory, and the verdict."""
    plan = verdict.plan
    say(f"{plan.base}, {plan.resolution} px")
    parts = (
        [name, f"{part.parameters / 1e6:,.1f} M", f"{part.trained / 1e6:,.1f} M", gigabytes(part.weights)]
        for name, part in plan.parts.items()
    )
    print_table(("part", "parameters", "trained", "weights"), parts)
    kinds, rows = list(plan.peak.amounts), []
    for step in plan.steps:
        cells = [gigabytes(value) if value else "–" for value in step.amounts.values()]
        rows.append(["›" if step is plan.peak else "", step.name, *cells, gigabytes(step.total)])
    print_table(("", "step", *kinds, "total"), rows)
    for step in plan.steps:
        if step.estimated:
            say(f"{step.name}: activations are a plain estimate, all else is counted")
    say(verdict.sentence())
