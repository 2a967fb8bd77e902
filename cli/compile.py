"""The commands for running the pipeline elsewhere than with ZenML: on Kubeflow Pipelines."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import Config, Overrides, Settings, answer, guarded


@guarded
def compile_pipeline(
    config: Config,
    out: Annotated[Path, typer.Option("--out", metavar="YAML", help="File to write.")],
    target: Annotated[Literal["kubeflow"], typer.Option("--to", help="What it is for: Kubeflow Pipelines, version 2.")] = "kubeflow",
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Image of all steps; default: zenml.yaml's for each.")
    ] = None,
    overrides: Overrides = None,
    settings: Settings = None,
) -> None:
    """Write the whole pipeline for one configuration as a file that Kubeflow Pipelines runs."""
    from components.core.config import load_config
    from runs.compile import compile_kubeflow

    steps = compile_kubeflow(load_config(config, overrides or ()), out, image=image, settings_file=settings)
    typer.echo(f"{out}: {len(steps)} steps for {target}")
    answer({"status": "completed", "path": str(out), "steps": steps})


@guarded
def step(
    name: Annotated[str, typer.Argument(metavar="STEP", help="Name of the step, such as fine_tune.")],
    parameters: Annotated[str, typer.Option("--parameters", metavar="JSON", help="The step's parameters.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the step's folder goes.")],
    inputs: Annotated[list[str] | None, typer.Option("--input", metavar="NAME=FOLDER", help="A folder that the step reads.")] = None,
) -> None:
    """Run one step of the pipeline on plain folders. It is what a compiled pipeline calls; people want `styleforge run`."""
    from orchestration.kubeflow import run_step

    run_step(name, parameters, inputs or [], out)
    answer({"status": "completed", "path": str(out)})
