"""The command that draws a person's own pictures in a learned style."""

from pathlib import Path
from typing import Annotated

import typer

from cli.look import Guidance, Model, Negative, Scheduler, Steps, StyleGuidance
from cli.options import answer, guarded


@guarded
def restyle(
    model: Model,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Pictures, or folders of pictures.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures, their scores and the page.")],
    strength: Annotated[float, typer.Option("--strength", help="How far a picture is redrawn: 0 leaves it, 1 keeps nothing of it.")] = 0.6,
    keep_structure: Annotated[
        bool, typer.Option("--keep-structure", help="Begin with the noise that the model sees in the picture, not with random noise.")
    ] = False,
    caption: Annotated[
        str | None, typer.Option("--caption", help="What every picture shows; default: as metadata.jsonl beside them says.")
    ] = None,
    captioner: Annotated[
        str | None, typer.Option("--captioner", metavar="MODEL", help="Vision-language model that captions pictures without a caption.")
    ] = None,
    captioner_revision: Annotated[str | None, typer.Option("--captioner-revision", help="Pinned commit of a hub captioner.")] = None,
    style_set: Annotated[
        Path | None,
        typer.Option("--style-set", metavar="FOLDER", help="The style's own pictures; default: where the model's run had them."),
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Also AdaIN of latents and Gram matrices.")] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise.")] = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    style_guidance: StyleGuidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
) -> None:
    """Draw your own pictures in the style, beside two baselines, with scores and a page of before and after."""
    from cli.printing.restyle import print_restyled
    from components.core.config import CaptionsSection
    from runs.restyle import RestyleOptions
    from runs.restyle import restyle as run

    changes = {"steps": steps, "guidance": guidance, "style_guidance": style_guidance, "scheduler": scheduler, "negative_prompt": negative}
    captions = CaptionsSection(model=captioner, revision=captioner_revision)
    options = RestyleOptions(pictures, out, strength, keep_structure, caption, captions, style_set, baselines, seed, changes)
    result = run(model, options)
    print_restyled(result)
    answer({"status": "completed", **result})
