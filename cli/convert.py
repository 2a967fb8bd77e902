"""``styleforge convert``: published weights of extractors as safetensors."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import answer, guarded


@guarded
def convert(
    network: Annotated[Literal["csd", "sscd"], typer.Argument(metavar="csd|sscd", help="Which network the weights are of.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint that its authors published, saved by torch.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: the same name, ending in .safetensors.")] = None,
) -> None:
    """Write the published weights of an extractor as safetensors, without running anything that is in them."""
    from components.evaluation.extractors.convert import convert as convert_weights

    written = convert_weights(network, file, out)
    typer.echo(f"wrote {written}; use it as {network}:{written}")
    answer({"status": "completed", "network": network, "file": str(written), "extractor": f"{network}:{written}"})
