"""The commands that run: demo, run, compare, and what one asks before: validate, config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Config, NoCache, Overrides, Settings, answer, guarded, is_json, report_error

if TYPE_CHECKING:
    from components.core.config import RunConfig

Shards = Annotated[
    int, typer.Option("--shards", min=1, help="Number of shards for sampling and scoring; on a cluster, each runs in its own pod.")
]


@guarded
def run(config: Config, overrides: Overrides = None, no_cache: NoCache = False, settings: Settings = None, shards: Shards = 1) -> None:
    """Train, score and register a style model: the whole pipeline."""
    from components.core.config import load_config
    from runs.validation import all_problems

    with all_problems(config, overrides or ()):
        _run(load_config(config, overrides or ()), not no_cache, settings, shards)


@guarded
def demo(
    style: Annotated[str, typer.Option("--style", help="Target style of the pocket world.")] = "anime",
    overrides: Overrides = None,
    no_cache: NoCache = False,
) -> None:
    """Render a style set of the pocket world, and run the whole pipeline on it."""
    from runs.drawing import demo_config

    _run(demo_config(style, overrides or ()), not no_cache, None)


def _run(config: RunConfig, use_cache: bool, settings: Path | None, shards: int = 1) -> None:
    from cli.printing.scores import print_result
    from runs.run import run_personalize

    result = run_personalize(config, use_cache=use_cache, settings_file=settings, shards=shards)
    if result.error is not None:
        report_error(result.error, result.as_dict())
    print_result(result)
    answer(result.as_dict())


@guarded
def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Comparison: a YAML file, or a name such as compare-pocket-quick.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=VALUE", help="Override one setting of the comparison, or of all its runs; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for tables and pages; default: under STYLEFORGE_HOME.")] = None,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", min=1, help="Cells to run at a time on this machine; default: one per CUDA device, else one per core."),
    ] = None,
    no_cache: NoCache = False,
    settings: Settings = None,
) -> None:
    """Compare methods over styles and seeds: tables, claims, costs, images. Exits with 1 if a cell failed."""
    from cli.printing.scores import print_comparison
    from runs.comparison import run_comparison
    from runs.comparison_plan import CompareOptions

    options = CompareOptions(config, tuple(overrides or ()), not no_cache, settings, parallel, out)
    result = run_comparison(options)
    if result.error is not None:
        report_error(result.error, result.as_dict())
    print_comparison(result)
    answer(result.as_dict())
    if result.failed:
        raise typer.Exit(1)


@guarded
def validate(
    config: Config,
    overrides: Overrides = None,
    draw: Annotated[
        bool | None,
        typer.Option("--draw/--no-draw", help="Generate images with the base to examine the set; default: on a GPU, or with a small base."),
    ] = None,
) -> None:
    """Check the configuration and the style's images without training: do they follow the rules, and can the style be learned?"""
    from cli.printing.scores import print_validation
    from runs.validation import validate_style

    outcome = validate_style(config, overrides or (), draw=draw)
    print_validation(outcome)
    answer(outcome)
    if outcome["status"] != "completed":
        raise typer.Exit(3)


@guarded
def show_config(config: Config, overrides: Overrides = None) -> None:
    """Print the complete configuration of a run, with every default filled in."""
    import yaml

    from components.core.config import load_config

    resolved = load_config(config, overrides or ()).model_dump(mode="json")
    if is_json():
        answer(resolved)
    else:
        typer.echo(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), nl=False)
