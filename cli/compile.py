"""The commands for running the pipeline elsewhere than with ZenML: on Kubeflow Pipelines."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import Config, Overrides, Settings, answer, guarded


@guarded
def compile_pipeline(
    config: Config,
    out: Annotated[Path, typer.Option("--out", metavar="YAML", help="File to write.")],
    target: Annotated[Literal["kubeflow"], typer.Option("--to", help="Target: Kubeflow Pipelines, version 2.")] = "kubeflow",
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Image for all steps; default: each step's image in zenml.yaml.")
    ] = None,
    overrides: Overrides = None,
    settings: Settings = None,
) -> None:
    """Compile the whole pipeline for one configuration into a file for Kubeflow Pipelines."""
    from components.core.config import load_config
    from runs.compile import compile_kubeflow

    steps = compile_kubeflow(load_config(config, overrides or ()), out, image=image, settings_file=settings)
    typer.echo(f"{out}: {len(steps)} steps for {target}")
    answer({"status": "completed", "path": str(out), "steps": steps})


@guarded
def step(
    name: Annotated[str, typer.Argument(metavar="STEP", help="Name of the step, for example fine_tune.")],
    parameters: Annotated[str, typer.Option("--parameters", metavar="JSON", help="The step's parameters.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the step's output.")],
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=FOLDER", help="Input folder of the step; repeatable.")
    ] = None,
) -> None:
    """Run one step of the pipeline on plain folders. Compiled pipelines call this; people should use `styleforge run`."""
    from orchestration.kubeflow import run_step

    run_step(name, parameters, inputs or [], out)
    answer({"status": "completed", "path": str(out)})
