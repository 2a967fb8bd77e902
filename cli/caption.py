"""The command that writes captions into a style source."""

from typing import Annotated

import typer

from cli.options import Config, Overrides, answer, guarded


@guarded
def caption(
    config: Config,
    overrides: Overrides = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite-generated", help="Replace captions written by a model. Captions written by people stay.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the images and what would be written; load no model and write nothing.")
    ] = False,
) -> None:
    """Caption images that have no caption, with the model in captions.model, and write metadata.jsonl into the style's folder."""
    from cli.printing.captions import print_captions
    from components.core.config import load_config
    from runs.captioning import caption_source

    result = caption_source(load_config(config, overrides or ()), overwrite=overwrite, dry_run=dry_run)
    print_captions(result)
    answer(result)
