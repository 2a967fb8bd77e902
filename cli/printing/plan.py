"""How a memory plan looks to people."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from rich.text import Text

from cli.printing.scores import make_console, make_table
from components.core.gpus import gigabytes

if TYPE_CHECKING:
    from runs.memory import MemoryVerdict


def print_plan(verdict: MemoryVerdict) -> None:
    """The parts of the base, each step's memory, and the verdict."""
    plan, console = verdict.plan, make_console()
    console.print(Text(f"{plan.base}, {plan.resolution} px"))
    parts = make_table("part", "parameters", "trained", "weights")
    for name, part in plan.parts.items():
        parts.add_row(name, f"{part.parameters / 1e6:,.1f} M", f"{part.trained / 1e6:,.1f} M", gigabytes(part.weights))
    console.print(parts)
    kinds = [item.name for item in fields(plan.peak) if item.name != "name"]
    steps = make_table("", "step", *kinds, "total")
    for step in plan.steps:
        cells = [gigabytes(value) if (value := getattr(step, kind)) else "–" for kind in kinds]
        steps.add_row("›" if step is plan.peak else "", step.name, *cells, gigabytes(step.total))
    console.print(steps)
    console.print(Text(verdict.sentence()))
