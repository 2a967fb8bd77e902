"""The commands that look at a finished model: sample, explain, models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder, or registered name, name@alias or name/version.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the pictures.")]
Plain = Annotated[bool, typer.Option("--plain", help="Draw without the style.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Denoising steps; default: as the model was scored.")]
Guidance = Annotated[float | None, typer.Option("--guidance", min=1.0, help="Guidance scale; default: as scored.")]
Scheduler = Annotated[str | None, typer.Option("--scheduler", help="Sampler by name; default: as scored.")]
Negative = Annotated[str | None, typer.Option("--negative-prompt", help="What to lead away from; default: as scored.")]


@guarded
def sample(
    model: Model,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw; without the identifier it is added.")],
    out: Out,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Pictures a prompt.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the pictures.")] = 0,
    plain: Plain = False,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
) -> None:
    """Draw pictures with a style model."""
    from runs.drawing import draw

    changes = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "negative_prompt": negative}
    pictures = draw(model, prompts, out, repeats=repeats, seed=seed, plain=plain, changes=changes)
    for picture in pictures:
        typer.echo(picture["path"])
    answer({"status": "completed", "pictures": pictures})


@guarded
def explain(
    model: Model,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw; without the identifier it is added.")],
    out: Out,
    token: Annotated[
        list[str] | None,
        typer.Option(
            "--token", metavar="WORD", help="Identifier or other word of the prompt; may be repeated. Default: all that name something."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the picture.")] = 0,
    plain: Plain = False,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
) -> None:
    """Draw a picture, and map which of its places look at which word of the prompt."""
    from cli.printing.scores import print_words
    from runs.drawing import explain as look

    changes = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "negative_prompt": negative}
    outcome = look(model, prompt, token or (), out, seed=seed, plain=plain, changes=changes)
    print_words(outcome)
    answer({"status": "completed", **outcome})


@guarded
def models() -> None:
    """List the registered style models."""
    from cli.printing.scores import print_models
    from orchestration.environment import prepare_environment

    prepare_environment()
    from components.registry.versions import list_models

    rows = list_models()
    print_models(rows)
    answer({"status": "completed", "models": rows})
