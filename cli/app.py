"""The ``styleforge`` command: parses, prints and exits; the work is done elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.compile import compile_pipeline, step
from cli.doctor import doctor
from cli.export import export
from cli.options import AsJson, Format, LogFormat, Verbose, guarded, print_json, report_error
from cli.pocket import app as pocket_app
from cli.registry import mount as mount_registry
from cli.retrain import retrain
from cli.schedule import app as schedule_app
from cli.stack import app as stack_app
from cli.summary import summary

if TYPE_CHECKING:
    from components.core.config import RunConfig

app = typer.Typer(
    name="styleforge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teach a text-to-image diffusion model an artistic style, prove it by numbers, and register it.",
)
app.add_typer(pocket_app, name="pocket", help="The pocket world: render its pictures, train and check its embedded base model.")
app.add_typer(schedule_app, name="schedule", help="Retrain on a schedule: install, list and remove.")
app.command()(doctor)
app.add_typer(stack_app, name="stack", help="ZenML stacks: where the steps run. Apply definitions, list and remove stacks.")
app.command()(export)
app.command()(retrain)
app.command()(summary)
app.command(name="compile")(compile_pipeline)
app.command()(step)
mount_registry(app)

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="Run configuration (YAML); start from one in configs/.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override one setting; may be repeated.")]
Settings = Annotated[Path | None, typer.Option("--settings", metavar="YAML", help="Where steps run; default: zenml.yaml.")]
Shards = Annotated[int, typer.Option("--shards", min=1, help="Sample and score in so many shards, each in a pod of its own on a cluster.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Run every step again.")]


@app.command()
@guarded
def run(
    config: Config,
    overrides: Overrides = None,
    no_cache: NoCache = False,
    settings: Settings = None,
    shards: Shards = 1,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Train, score and register a style model: the whole pipeline."""
    from components.core.config import load_config
    from runs.validation import all_problems

    with all_problems(config, overrides or ()):
        _run(load_config(config, overrides or ()), not no_cache, settings, as_json, verbose, shards)


@app.command()
@guarded
def demo(
    style: Annotated[str, typer.Option("--style", help="Target style of the pocket world.")] = "anime",
    overrides: Overrides = None,
    no_cache: NoCache = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Render a style set of the pocket world, and run the whole job on it."""
    from runs.drawing import demo_config

    _run(demo_config(style, overrides or ()), not no_cache, None, as_json, verbose)


def _run(config: RunConfig, use_cache: bool, settings: Path | None, as_json: bool, verbose: bool, shards: int = 1) -> None:
    from cli.printing.scores import print_result
    from runs.run import run_personalize

    result = run_personalize(config, use_cache=use_cache, settings_file=settings, shards=shards, verbose=verbose)
    if result.error is not None:
        report_error(result.error, as_json=as_json, verbose=verbose, result=result.as_dict())
    print_result(result)
    if as_json:
        print_json(result.as_dict())


@app.command()
@guarded
def compare(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Comparison (YAML); start from configs/compare-pocket-quick.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=VALUE", help="Override one setting of the comparison, or of all its runs; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for tables and pages; default: under STYLEFORGE_HOME.")] = None,
    parallel: Annotated[
        int | None, typer.Option("--parallel", min=1, help="Cells at a time on this machine; default: one a CUDA device, else a core.")
    ] = None,
    no_cache: NoCache = False,
    settings: Settings = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Compare methods over styles and seeds: tables, claims, costs, pictures. Exits with 1 if a cell failed."""
    from cli.printing.scores import print_comparison
    from runs.comparison import run_comparison
    from runs.comparison_plan import CompareOptions

    options = CompareOptions(config, tuple(overrides or ()), not no_cache, settings, parallel, out, verbose)
    result = run_comparison(options)
    if result.error is not None:
        report_error(result.error, as_json=as_json, verbose=verbose, result=result.as_dict())
    print_comparison(result)
    if as_json:
        print_json(result.as_dict())
    if result.failed:
        raise typer.Exit(1)


@app.command()
@guarded
def validate(
    config: Config, overrides: Overrides = None, as_json: AsJson = False, verbose: Verbose = False, log_format: Format = LogFormat.human
) -> None:
    """Check the configuration and the style's pictures, without training anything."""
    from cli.printing.scores import print_validation
    from runs.validation import validate_style

    outcome = validate_style(config, overrides or (), verbose=verbose)
    print_validation(outcome)
    if as_json:
        print_json(outcome)
    if outcome["status"] != "completed":
        raise typer.Exit(3)


@app.command()
@guarded
def sample(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder, or registered name, name@alias or name/version.")],
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw; without the identifier it is added.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")],
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Pictures a prompt.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the pictures.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Draw without the style.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Denoising steps; default: as the model was scored.")] = None,
    guidance: Annotated[float | None, typer.Option("--guidance", min=1.0, help="Guidance scale; default: as scored.")] = None,
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="Sampler by name; default: as scored.")] = None,
    negative: Annotated[str | None, typer.Option("--negative-prompt", help="What to lead away from; default: as scored.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Draw pictures with a style model."""
    from runs.drawing import draw

    changes = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "negative_prompt": negative}
    pictures = draw(model, prompts, out, repeats=repeats, seed=seed, plain=plain, changes=changes, verbose=verbose)
    for picture in pictures:
        typer.echo(picture["path"])
    if as_json:
        print_json({"status": "completed", "pictures": pictures})


@app.command()
@guarded
def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder, or registered name, name@alias or name/version.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw; without the identifier it is added.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")],
    token: Annotated[
        list[str] | None,
        typer.Option(
            "--token", metavar="WORD", help="Identifier or other word of the prompt; may be repeated. Default: all that name something."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the picture.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Draw without the style.")] = False,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Denoising steps; default: as the model was scored.")] = None,
    guidance: Annotated[float | None, typer.Option("--guidance", min=1.0, help="Guidance scale; default: as scored.")] = None,
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="Sampler by name; default: as scored.")] = None,
    negative: Annotated[str | None, typer.Option("--negative-prompt", help="What to lead away from; default: as scored.")] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
    log_format: Format = LogFormat.human,
) -> None:
    """Draw a picture, and map which of its places look at which word of the prompt."""
    from cli.printing.scores import print_words
    from runs.drawing import explain as look

    changes = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "negative_prompt": negative}
    outcome = look(model, prompt, token or (), out, seed=seed, plain=plain, changes=changes, verbose=verbose)
    print_words(outcome)
    if as_json:
        print_json({"status": "completed", **outcome})


@app.command()
@guarded
def models(as_json: AsJson = False, verbose: Verbose = False, log_format: Format = LogFormat.human) -> None:
    """List the registered style models."""
    from cli.printing.scores import print_models
    from orchestration.environment import prepare_environment

    prepare_environment(verbose=verbose)
    from components.registry.versions import list_models

    rows = list_models()
    print_models(rows)
    if as_json:
        print_json({"status": "completed", "models": rows})


@app.command(name="config")
@guarded
def show_config(
    config: Config, overrides: Overrides = None, as_json: AsJson = False, verbose: Verbose = False, log_format: Format = LogFormat.human
) -> None:
    """Print the run that a configuration resolves to, with every default."""
    import yaml

    from components.core.config import load_config

    resolved = load_config(config, overrides or ()).model_dump(mode="json")
    if as_json:
        print_json(resolved)
    else:
        typer.echo(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), nl=False)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
