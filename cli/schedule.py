"""The commands for schedules of retraining."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.options import Champion, Overrides, answer, guarded

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]
As = Annotated[
    Literal["kubernetes", "zenml"],
    typer.Option("--as", help="A Kubernetes CronJob that retrains all sets, or a ZenML schedule of the pipeline for one set."),
]
Namespace = Annotated[str | None, typer.Option("--namespace", metavar="NS", help="Namespace; default: styleforge-runs.")]
Context = Annotated[str | None, typer.Option("--context", metavar="CTX", help="Context of the kubeconfig; default: the current one.")]


@app.command()
@guarded
def apply(
    name: Name,
    config: Annotated[Path, typer.Option("--config", metavar="CONFIG", help="Run configuration (YAML); copied into the pod.")],
    cron: Annotated[
        str, typer.Option("--cron", metavar="CRON", help="Minute, hour, day, month, weekday, for example '17 3 * * *', or @daily.")
    ],
    source: Annotated[
        str | None, typer.Option("--source", metavar="URL", help="Bucket; each subfolder is a style set. With --as zenml: the one set.")
    ] = None,
    kind: As = "kubernetes",
    namespace: Namespace = None,
    context: Context = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Container image with StyleForge; default: the manifest's.")
    ] = None,
    time_zone: Annotated[str | None, typer.Option("--time-zone", metavar="TZ", help="Time zone of --cron; default: Etc/UTC.")] = None,
    suspend: Annotated[
        bool | None,
        typer.Option("--suspend/--resume", help="Suspend or resume the schedule; default: unchanged, and a new schedule is active."),
    ] = None,
    overrides: Overrides = None,
    alias: Champion = "champion",
    no_promote: Annotated[bool, typer.Option("--no-promote", help="Only train and register; skip the gate.")] = False,
    service_account: Annotated[
        str | None, typer.Option("--service-account", metavar="NAME", help="Service account of the pod; default: the manifest's.")
    ] = None,
    gate: Annotated[
        Path | None, typer.Option("--gate", metavar="YAML", help="File with the gate's rules; copied into the pod. Default: the image's.")
    ] = None,
    claim: Annotated[
        str | None, typer.Option("--home-claim", metavar="NAME", help="PersistentVolumeClaim of the pod's home; default: the manifest's.")
    ] = None,
    requests: Annotated[
        str | None,
        typer.Option(
            "--requests", metavar="LIST", help="Resource requests of the pod, for example cpu=500m,memory=2Gi; default: the manifest's."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the cluster validate the objects and print them; change nothing.")
    ] = False,
) -> None:
    """Install a retraining schedule, or update it. Idempotent: repeating the command changes nothing."""
    from cli.printing.schedule import print_applied
    from components.cluster.schedule_manifests import ScheduleRequest
    from runs import schedule as scheduling

    request = ScheduleRequest(
        name=name, config=config, cron=cron, source=source, overrides=tuple(overrides or ()), namespace=namespace, context=context,
        image=image, time_zone=time_zone, suspend=suspend, alias=alias, promote=not no_promote, service_account=service_account, gate=gate,
        claim=claim, requests=requests, dry_run=dry_run,
    )  # fmt: skip
    result = scheduling.apply_with_zenml(request) if kind == "zenml" else scheduling.apply_cron_job(request)
    print_applied(result)
    answer({"status": "completed", "schedule": result.as_dict()})


@app.command(name="list")
@guarded
def show(kind: As = "kubernetes", namespace: Namespace = None, context: Context = None) -> None:
    """List the schedules installed by `apply`, with their next times."""
    from cli.printing.schedule import print_schedules
    from runs import schedule as scheduling

    entries = scheduling.list_with_zenml() if kind == "zenml" else scheduling.list_cron_jobs(namespace, context)
    print_schedules(entries)
    answer({"status": "completed", "schedules": [vars(entry) for entry in entries]})


@app.command()
@guarded
def remove(name: Name, kind: As = "kubernetes", namespace: Namespace = None, context: Context = None) -> None:
    """Remove a schedule and its configuration; this also ends a retraining that it has started."""
    from runs import schedule as scheduling

    removed = scheduling.remove_with_zenml(name) if kind == "zenml" else scheduling.remove_cron_job(name, namespace, context)
    for item in removed:
        typer.echo(f"removed {item}")
    answer({"status": "completed", "removed": removed})
