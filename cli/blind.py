"""``styleforge blind``: people judge without knowing which image is whose."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from cli.options import answer, guarded


class PageFirst(TyperGroup):
    """``styleforge blind RUN`` makes a page; ``score`` is the one word that is no run."""

    default = "page"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command in front of what names no command."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self.default, *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(cls=PageFirst, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
@guarded
def page(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="A run (id, folder, or file with the output of `styleforge run --json`), a folder of generated images, or a registered "
            "model. One source is compared with the artist, two with each other.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder for blind.html and key.json.")],
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="FOLDER", help="The artist's images; default: the run's held-out reference.")
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=1, help="Number of pairs.")] = 40,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for pairs, order and sides.")] = 0,
    ask: Annotated[
        Literal["style", "like"] | None,
        typer.Option(
            "--ask", help="Question about two sources: which image is more in the style, or which is liked better. Default: style."
        ),
    ] = None,
) -> None:
    """Write a page with hidden names that asks people which of two images is the artist's, or which of two models is better."""
    from cli.printing.blind import print_page
    from runs.blind import BlindOptions, make_page

    result = make_page(BlindOptions(sources, out, reference, pairs, seed, ask))
    print_page(result)
    answer({"status": "completed", **result})


@app.command()
@guarded
def score(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="The page's key.json.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Answers, one file per person.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="Registered version (name@alias or name/version) to log the votes with, for the gate."
        ),
    ] = None,
) -> None:
    """Report how often people took the model's images for the artist's, or which model they preferred, with intervals."""
    from cli.printing.blind import print_votes
    from runs.blind import score as act

    result = act(key, files, model)
    print_votes(result)
    answer({"status": "completed", **result})
