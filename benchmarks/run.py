"""``make bench``: measures training, sampling and scoring against a baseline, peak memory, and the time of a cached run."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
# When this file is run as a script, Python looks for modules beside it and not in the repository.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() not in (ROOT, ROOT / "benchmarks"))]

from benchmarks import sampling, scoring, training  # noqa: E402
from benchmarks.cached_run import measure_cached_run  # noqa: E402
from benchmarks.measure import Comparison, alternate  # noqa: E402
from benchmarks.report import Results, machine, print_results  # noqa: E402
from benchmarks.world import Sizes, World, build_world  # noqa: E402
from components.core.config import RunConfig, builtin_config, load_config  # noqa: E402
from components.core.errors import StyleForgeError  # noqa: E402
from components.core.paths import state, write_json  # noqa: E402

WAYS = {"training": (training, 1.5), "sampling": (sampling, 3.0), "scoring": (scoring, 2.0)}


class Part(StrEnum):
    """The parts that can be measured."""

    training = "training"
    sampling = "sampling"
    scoring = "scoring"
    cached_run = "cached-run"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="Run whose base, method and settings are measured.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override one setting; repeatable.")]
Parts = Annotated[list[Part] | None, typer.Option("--part", help="Part to measure; repeatable. Default: all.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Rounds of each variant, alternating.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps per training round.")]
Drawn = Annotated[int, typer.Option("--drawn", min=1, help="Images per sampling round.")]
Scored = Annotated[int, typer.Option("--scored", min=4, help="Images of the style model per scoring round, and as many of the base.")]
Reference = Annotated[int, typer.Option("--reference", min=2, help="Held-out images.")]
Side = Annotated[int, typer.Option("--side", min=8, help="Side of scored images, in pixels.")]
Source = Annotated[int, typer.Option("--source", min=32, help="Side of the training images, in pixels, as a user has them.")]
InProcess = Annotated[bool, typer.Option("--in-process", help="Run each variant in this process; memory is then shared.")]
AsJson = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")]
POCKET = builtin_config("pocket")


@app.command()
def main(
    config: Config = POCKET,
    overrides: Overrides = None,
    parts: Parts = None,
    rounds: Rounds = 3,
    steps: Steps = Sizes.steps,
    drawn: Drawn = Sizes.drawn,
    scored: Scored = Sizes.scored,
    reference: Reference = Sizes.reference,
    side: Side = Sizes.side,
    source: Source = Sizes.source,
    in_process: InProcess = False,
    json_file: AsJson = None,
) -> None:
    """Measure StyleForge's way beside the baseline in the same run."""
    sizes = Sizes(steps, drawn, scored, reference, side, source)
    try:
        run = load_config(config, ["style.name=benchmark", "style.source=rendered", *(overrides or ())])
        results = bench(run, sizes, parts or list(Part), rounds, in_process=in_process)
    except StyleForgeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    print_results(results)
    if json_file is not None:
        write_json(json_file, results.as_json())


def bench(config: RunConfig, sizes: Sizes, parts: list[Part], rounds: int, *, in_process: bool = False) -> Results:
    """Measure the given parts."""
    about = machine()
    cached = None
    with tempfile.TemporaryDirectory(prefix="bench-", dir=state("work")) as folder:
        world = build_world(config, Path(folder), sizes)
        comparisons = [_compare(part, world, rounds, in_process) for part in parts if part is not Part.cached_run]
        if Part.cached_run in parts:
            typer.echo(f"cached-run: a first run and {rounds} more", err=True)
            whole = Path(folder) / "whole"
            whole.mkdir()
            cached = measure_cached_run(config, whole, sizes, rounds)
    settings = {"config_digest": config.digest(), "base": config.base.model, "rounds": rounds, **asdict(sizes)}
    return Results(about, settings, comparisons, cached)


def _compare(part: Part, world: World, rounds: int, in_process: bool) -> Comparison:
    module, aim = WAYS[part.value]
    typer.echo(f"{part.value}: {rounds} round(s) of each variant", err=True)
    ours, plain = alternate(module.ours, module.plain, world, rounds, in_process=in_process)
    found = Comparison(part.value, "images/s", ours, plain, aim, module.NOTE)
    # Print each result at once, so that minutes of measuring are not lost if a later part is interrupted.
    typer.echo(f"{part.value}: {found.ratio:.2f} times the baseline ({ours.rate:.1f} and {plain.rate:.1f} images/s)", err=True)
    return found


if __name__ == "__main__":
    app()
