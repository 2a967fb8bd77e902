"""``styleforge export``: a finished model for other programs, with its model card."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded


class ExportFormat(StrEnum):
    """What an export is made for."""

    diffusers = "diffusers"
    single_file = "single-file"
    a1111_lora = "a1111-lora"
    a1111_embedding = "a1111-embedding"
    comfyui = "comfyui"


class Precision(StrEnum):
    """How weights of whole networks are stored."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


@guarded
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder, or registered name, name@alias or name/version.")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="What the export is made for.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the files and the model card.")],
    dtype: Annotated[Precision, typer.Option("--dtype", help="Precision of whole networks.")] = Precision.fp32,
    license_: Annotated[str, typer.Option("--license", help="Licence by Hugging Face's identifier; `other` leaves it open.")] = "other",
    push: Annotated[
        str | None, typer.Option("--push", metavar="OWNER/REPO", help="Push to this Hub repository, with the token in HF_TOKEN.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a repository that --push creates public; default: private.")] = False,
) -> None:
    """Write a style model for diffusers, AUTOMATIC1111 or ComfyUI, with a model card, and with --push send it to the Hub."""
    from runs.export import ExportOptions, export_model

    options = ExportOptions(model, format_.value, out, dtype.value, license_, push, public)
    result = export_model(options)
    for file in result["files"]:
        typer.echo(str(out / file))
    for note in result["notes"]:
        typer.echo(f"note: {note}", err=True)
    if result["pushed"]:
        typer.echo(result["pushed"])
    answer({"status": "completed", **result})
