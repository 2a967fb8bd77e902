"""``styleforge art``: style sets of real art, and ``styleforge measures``: extractors judged on it."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import answer, guarded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Families = Annotated[list[str] | None, typer.Option("--family", metavar="NAME", help="Family from `styleforge art list`; repeatable.")]


@app.command(name="list")
@guarded
def list_families() -> None:
    """List the families: package, version, licence, author, number of images, and which are downloaded."""
    from cli.printing.art import print_families
    from components.art.overview import describe_families

    rows = describe_families()
    print_families(rows)
    answer({"status": "completed", "families": rows})


@app.command()
@guarded
def fetch(families: Families = None) -> None:
    """Download families with npm into STYLEFORGE_HOME; default: all. No other `art` command downloads anything."""
    from components.art.families import choose
    from components.art.packages import fetch as fetch_packages
    from components.art.packages import needed

    def say(text: str) -> None:
        typer.echo(text, err=True)

    packages = needed(choose(families))
    folders = fetch_packages(packages, say=say)
    typer.echo(f"{len(packages)} packages are here, {len(folders)} of them new")
    answer({"status": "completed", "packages": [family.pinned for family in packages], "new": [str(folder) for folder in folders]})


@app.command()
@guarded
def render(
    family: Annotated[str, typer.Option("--family", metavar="NAME", help="Family whose style the set shows.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the images.")],
    size: Annotated[
        int, typer.Option("--size", min=16, max=4096, help="Side of the images, in pixels; at least the base's resolution.")
    ] = 512,
    pool: Annotated[int, typer.Option("--pool", min=0, help="Number of images of other families in aux_pool.")] = 160,
    pool_families: Annotated[
        list[str] | None, typer.Option("--pool-family", metavar="NAME", help="Family for the pool; repeatable. Default: all others.")
    ] = None,
    reference: Annotated[int | None, typer.Option("--reference", min=0, help="Number of held-out images; default: all remaining.")] = None,
    known: Annotated[
        bool, typer.Option("--known", help="As the embedded base `art` knows drawings: its concepts, its families in the pool, no margins.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for choosing the images.")] = 0,
) -> None:
    """Write a family as a style set: style_ref (20), reference (the rest), aux_pool (other families), captions, roles and rights."""
    from components.art.base import BASE_FAMILIES, CONCEPTS
    from components.art.families import choose
    from components.art.style_set import Sizes, render_style_set

    target = choose([family])[0]
    others = [other for other in choose(pool_families, tuple(BASE_FAMILIES) if known else None) if other is not target and pool]
    counts = render_style_set(target, others, out, Sizes(size, pool, reference, CONCEPTS if known else None, known), seed=seed)
    typer.echo(f"rendered {target.title} into {out}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    answer({"status": "completed", "folder": str(out), "pictures": counts})


@guarded
def measures(
    extractors: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXTRACTOR...",
            help="`colours`, `texture`, `look`, `pocket`, a folder or hub id of an image model, `efficientnet-lite0`, `csd:FILE`, "
            "`csd-content:FILE`, `sscd:FILE`. Append `:moments-L` or `:gram-L` for statistics of layer L. Default: `colours`, `texture`, "
            "`look`, `pocket` and `efficientnet-lite0` (last layer, and statistics of blocks 2 and 6).",
        ),
    ] = None,
    families: Families = None,
    concepts: Annotated[int, typer.Option("--concepts", min=2, help="Number of concepts, each drawn by every family.")] = 150,
    size: Annotated[
        int, typer.Option("--size", min=16, max=4096, help="Side of the images, in pixels, before the extractor's own resizing.")
    ] = 224,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed for the concepts and the intervals.")] = 0,
    pocket: Annotated[
        bool,
        typer.Option(
            "--pocket", help="Evaluate on the pocket world: families are media and styles, concepts are scenes, images are 64 × 64."
        ),
    ] = False,
) -> None:
    """Evaluate extractors on real art: do they read the style whatever is shown, or the content whoever drew it?"""
    from cli.printing.art import print_measures
    from runs.measures import EXTRACTORS, MeasureOptions, measure

    options = MeasureOptions(families, concepts, size, seed=seed, world="pocket" if pocket else "art")
    result = measure(extractors or EXTRACTORS, options, say=lambda text: typer.echo(text, err=True))
    print_measures(result)
    answer({"status": "completed", **result.as_dict()})
