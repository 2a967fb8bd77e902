"""The commands that look at a finished model: sample, explain, models, export, summary."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import answer, guarded

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Model folder, or registered model: name, name@alias or name/version.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the images.")]
Plain = Annotated[bool, typer.Option("--plain", help="Generate without the style.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Denoising steps; default: as in scoring.")]
Guidance = Annotated[float | None, typer.Option("--guidance", min=1.0, help="Guidance scale; default: as in scoring.")]
StyleGuidance = Annotated[
    float | None,
    typer.Option("--style-guidance", min=1.0, help="Separate guidance scale for the style (split-styleforge); default: as in scoring."),
]
Scheduler = Annotated[str | None, typer.Option("--scheduler", help="Sampler; default: as in scoring.")]
Negative = Annotated[str | None, typer.Option("--negative-prompt", help="Prompt to guide away from; default: as in scoring.")]
ExportFormat = Literal["diffusers", "single-file", "a1111-lora", "a1111-embedding", "comfyui"]


@guarded
def sample(
    model: Model,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to generate; the identifier is added if missing.")],
    out: Out,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Images per prompt.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the images.")] = 0,
    plain: Plain = False,
    steps: Steps = None,
    guidance: Guidance = None,
    style_guidance: StyleGuidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
) -> None:
    """Generate images with a style model."""
    from runs.drawing import draw

    changes = {"steps": steps, "guidance": guidance, "style_guidance": style_guidance, "scheduler": scheduler, "negative_prompt": negative}
    pictures = draw(model, prompts, out, repeats=repeats, seed=seed, plain=plain, changes=changes)
    for picture in pictures:
        typer.echo(picture["path"])
    answer({"status": "completed", "pictures": pictures})


@guarded
def explain(
    model: Model,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to generate; the identifier is added if missing.")],
    out: Out,
    token: Annotated[
        list[str] | None,
        typer.Option(
            "--token", metavar="WORD", help="Identifier or other word of the prompt; repeatable. Default: all words that name something."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the image.")] = 0,
    plain: Plain = False,
    steps: Steps = None,
    guidance: Guidance = None,
    style_guidance: StyleGuidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
) -> None:
    """Generate an image, with a heat map for each word: where the image attends to it."""
    from cli.printing.scores import print_words
    from runs.drawing import explain as look

    changes = {"steps": steps, "guidance": guidance, "style_guidance": style_guidance, "scheduler": scheduler, "negative_prompt": negative}
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


@guarded
def export(
    model: Model,
    format_: Annotated[ExportFormat, typer.Option("--format", help="Target of the export.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the files and the model card.")],
    dtype: Annotated[
        Literal["fp32", "fp16", "bf16"], typer.Option("--dtype", help="Precision of complete networks in the export.")
    ] = "fp32",
    license_: Annotated[str, typer.Option("--license", help="Licence, by its Hugging Face identifier; `other` leaves it open.")] = "other",
    push: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/REPO", help="Push to this Hub repository; needs a token in HF_TOKEN.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a repository created by --push public; default: private.")] = False,
    strength: Annotated[
        float,
        typer.Option("--strength", help="Factor on the trained change: 0 is the base, 1 the model, at most 2."),
    ] = 1.0,
) -> None:
    """Export a style model for diffusers, AUTOMATIC1111 or ComfyUI, with a model card. --push also uploads it to the Hub."""
    from runs.export import ExportOptions, export_model

    options = ExportOptions(model, format_, out, dtype, license_, push, public, strength)
    result = export_model(options)
    for file in result["files"]:
        typer.echo(str(out / file))
    for note in result["notes"]:
        typer.echo(f"note: {note}", err=True)
    if result["pushed"]:
        typer.echo(result["pushed"])
    answer({"status": "completed", **result})


@guarded
def summary(
    out: Annotated[Path, typer.Option("--out", help="Folder for summary.md, grid.png and report.html.")],
    result: Annotated[
        Path | None, typer.Argument(metavar="[RESULT]", help="File with the output of `styleforge run --json`.", show_default=False)
    ] = None,
    gate: Annotated[Path | None, typer.Option("--gate", help="File with the output of `styleforge promote --json`.")] = None,
    title: Annotated[str, typer.Option("--title", help="Heading; default: the model's name.")] = "",
    link: Annotated[list[str] | None, typer.Option("--link", metavar="TEXT=URL", help="Additional link; repeatable.")] = None,
) -> None:
    """Summarize a run's images, scores and gate as Markdown for a pull request; also write the image grid and the report."""
    from runs.summary import summarize

    files = summarize(result, gate, out, title=title, links=link or ())
    for path in files.values():
        if path:
            typer.echo(path)
    answer({"status": "completed", **files})
