"""The ``styleforge`` command: parses, prints and exits; the work is done elsewhere."""

import typer

from cli import art, base, blind, look, pocket, registry, run, schedule, stack
from cli.caption import caption
from cli.compile import compile_pipeline, step
from cli.convert import convert
from cli.doctor import doctor
from cli.plan import plan
from cli.restyle import restyle
from cli.retrain import retrain
from cli.rounds import next_round

app = typer.Typer(
    name="styleforge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fine-tune a text-to-image diffusion model on an artistic style, measure the result, and register it.",
)
PANELS = {
    "Run": {
        "demo": run.demo,
        "run": run.run,
        "compare": run.compare,
        "validate": run.validate,
        "plan": plan,
        "caption": caption,
        "round": next_round,
        "config": run.show_config,
    },
    "Look": {
        "models": look.models,
        "sample": look.sample,
        "restyle": restyle,
        "explain": look.explain,
        "export": look.export,
        "summary": look.summary,
        "measures": art.measures,
        "convert": convert,
    },
    "Decide": {"promote": registry.promote, "rollback": registry.rollback, "history": registry.history, "prune": registry.prune},
    "Operate": {"doctor": doctor, "retrain": retrain, "compile": compile_pipeline, "step": step},
}
"""The commands as people use them."""
for panel, commands in PANELS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)
app.add_typer(
    base.app, name="base", rich_help_panel="Run", help="Text-to-image models to start from: pin a hub model, train and check embedded ones."
)
app.add_typer(blind.app, name="blind", rich_help_panel="Decide", help="Blind judging by people: make a page, score the answers.")
app.add_typer(schedule.app, name="schedule", rich_help_panel="Operate", help="Scheduled retraining: install, list and remove schedules.")
app.add_typer(stack.app, name="stack", rich_help_panel="Operate", help="ZenML stacks: apply definitions, list and remove stacks.")
app.add_typer(pocket.app, name="pocket", rich_help_panel="Pocket", help="The pocket world: render its images.")
app.add_typer(art.app, name="art", rich_help_panel="Art", help="Real art: open families of pictograms as style sets.")


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
