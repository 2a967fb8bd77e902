"""``styleforge convert``: published weights of extractors as safetensors."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import answer, guarded


@guarded
def convert(
    network: Annotated[Literal["csd", "sscd"], typer.Argument(metavar="csd|sscd", help="Network that the weights belong to.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint as published by its authors, in torch's format.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File to write; default: the same name, ending in .safetensors.")
    ] = None,
) -> None:
    """Convert an extractor's published weights to safetensors, without running code from the file."""
    from components.evaluation.extractors.convert import convert as convert_weights

    written = convert_weights(network, file, out)
    typer.echo(f"wrote {written}; use it as {network}:{written}")
    answer({"status": "completed", "network": network, "file": str(written), "extractor": f"{network}:{written}"})
