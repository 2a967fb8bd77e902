"""The commands for running the pipeline elsewhere than with ZenML: on Kubeflow Pipelines."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, Format, LogFormat, Verbose, guarded, print_json


class Target(StrEnum):
    """What the pipeline is written for."""

    kubeflow = "kubeflow"


@guarded
def compile_pipeline(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Run configuration (YAML).")],
    out: Annotated[Path, typer.Option("--out", metavar="YAML", help="File to write.")],
    target: Annotated[Target, typer.Option("--to", help="What it is for: Kubeflow Pipelines, version 2.")] = Target.kubeflow,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Image of all steps; default: zenml.yaml's for each.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override one setting; may be repeated.")
    ] = None,
    settings: Annotated[Path | None, typer.Option("--settings", metavar="YAML", help="Where steps run; default: zenml.yaml.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Write the whole pipeline for one configuration as a file that Kubeflow Pipelines runs."""
    from components.core.config import load_config
    from runs.compile import compile_kubeflow

    steps = compile_kubeflow(load_config(config, overrides or ()), out, image=image, settings_file=settings, verbose=verbose)
    typer.echo(f"{out}: {len(steps)} steps for {target.value}")
    if as_json:
        print_json({"status": "completed", "path": str(out), "steps": steps})


@guarded
def step(
    name: Annotated[str, typer.Argument(metavar="STEP", help="Name of the step, such as fine_tune.")],
    parameters: Annotated[str, typer.Option("--parameters", metavar="JSON", help="The step's parameters.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the step's folder goes.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", metavar="NAME=FOLDER", help="A folder that the step reads.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Run one step of the pipeline on plain folders. It is what a compiled pipeline calls; people want `styleforge run`."""
    from orchestration.kubeflow import run_step

    run_step(name, parameters, inputs or [], out, verbose=verbose)
    if as_json:
        print_json({"status": "completed", "path": str(out)})
