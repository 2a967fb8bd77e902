"""``styleforge plan``: what a run takes of a GPU's memory, and what would make it fit."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Config, Overrides, answer, guarded, report_error


@guarded
def plan(
    config: Config,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            "--gpu", metavar="GPU", help="GPU memory (24GB) or name (RTX 4090, L4); default: STYLEFORGE_GPU, else this machine's."
        ),
    ] = None,
) -> None:
    """Estimate a run's GPU memory from the base's configuration, before any weights are downloaded. Exits with 2 if it does not fit."""
    from cli.printing.plan import print_plan
    from components.core.config import load_config
    from components.core.gpus import gpu_memory, usual_gpu
    from orchestration.environment import prepare_environment
    from runs.memory import judge_memory

    prepare_environment()
    run = load_config(config, overrides or ())
    verdict = judge_memory(run, gpu_memory(gpu) if gpu else usual_gpu())
    print_plan(verdict)
    if verdict.fits is False:
        report_error(verdict.refusal(), {"status": "refused", **verdict.as_json()})
    answer({"status": "completed", **verdict.as_json()})
