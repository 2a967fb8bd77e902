"""The command that draws a person's own pictures in a learned style."""

from pathlib import Path
from typing import Annotated

import typer

from cli.look import Guidance, Model, Negative, Scheduler, Steps, StyleGuidance
from cli.options import answer, guarded


@guarded
def restyle(
    model: Model,
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the images, their scores and the page.")],
    strength: Annotated[
        float, typer.Option("--strength", help="How much an image is redrawn: 0 leaves it unchanged, 1 keeps nothing of it.")
    ] = 0.6,
    keep_structure: Annotated[
        bool, typer.Option("--keep-structure", help="Start from the noise that the model infers from the image, instead of random noise.")
    ] = False,
    caption: Annotated[
        str | None, typer.Option("--caption", help="Caption for all images; default: from metadata.jsonl beside them.")
    ] = None,
    captioner: Annotated[
        str | None, typer.Option("--captioner", metavar="MODEL", help="Vision-language model for images without a caption.")
    ] = None,
    captioner_revision: Annotated[str | None, typer.Option("--captioner-revision", help="Pinned commit of a hub captioner.")] = None,
    style_set: Annotated[
        Path | None,
        typer.Option("--style-set", metavar="FOLDER", help="The style's own images; default: where the model's run read them."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Also compute the baselines: AdaIN of latents, and Gram matrices.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise.")] = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    style_guidance: StyleGuidance = None,
    scheduler: Scheduler = None,
    negative: Negative = None,
) -> None:
    """Redraw your own images in the style, beside two baselines, with scores and a before-and-after page."""
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
