"""``styleforge stack``: ZenML stacks from definitions."""

from typing import Annotated

import typer

from cli.options import answer, guarded

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
@guarded
def apply(
    definition: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="Definition: local, kubernetes or kubeflow (infra/stacks), or a YAML file.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Override one value of the definition; repeatable.")
    ] = None,
    activate: Annotated[bool, typer.Option("--activate/--no-activate", help="Make this the active stack.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would change; change nothing.")] = False,
) -> None:
    """Create a ZenML stack, or update it to its definition. Idempotent: repeating the command changes nothing."""
    from cli.printing.stack import print_applied
    from orchestration.stacks import apply_stack

    result = apply_stack(definition, overrides or (), activate=activate, dry_run=dry_run)
    print_applied(result)
    answer(result.as_dict())


@app.command(name="list")
@guarded
def list_() -> None:
    """List ZenML's stacks and their components."""
    from cli.printing.stack import print_stacks
    from components.cluster.stacks import definitions
    from orchestration.stacks import list_stacks

    stacks = list_stacks()
    print_stacks(stacks, definitions())
    answer({"status": "completed", "stacks": stacks, "definitions": definitions()})


@app.command()
@guarded
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the stack in ZenML.")]) -> None:
    """Remove a ZenML stack, and those of its components that no other stack uses and that contain no artifacts."""
    from cli.printing.stack import print_removed
    from orchestration.stacks import remove_stack

    result = remove_stack(name)
    print_removed(result)
    answer(result)
