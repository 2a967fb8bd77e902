"""Installs schedules: ``retrain`` as a Kubernetes CronJob, or ``personalize`` for one style set with the stack's orchestrator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.cluster import schedule_manifests as objects
from components.cluster.applied import Applied, Entry, apply, list_schedules, remove
from components.cluster.client import Access, connect
from components.cluster.cron_expression import next_times, parse_cron
from components.cluster.schedule_manifests import ScheduleRequest
from components.core.config import load_config
from components.core.errors import InputError
from runs.retraining import RetrainRequest, check_request

if TYPE_CHECKING:
    from zenml.client import Client
    from zenml.models import ScheduleResponse

    from runs.plan import Plan

_PIPELINE = "personalize"


# Kubernetes


def apply_cron_job(request: ScheduleRequest) -> Applied:
    """Install or change the CronJob that runs ``styleforge retrain``.

    Raises InputError if the request is wrong or cannot work in a pod, ClusterError if the cluster refuses or fails, and ClusterUnreachable
    if it does not answer.
    """
    if not request.source:
        raise InputError("--source", "is missing", expected="the bucket whose sub-folders are style sets")
    template = objects.load_template()
    _, _, sample = check_request(RetrainRequest(request.config, request.source, request.overrides, request.alias, request.gate))
    objects.check_travels(sample, request.source, objects.volumes_of(template))
    request.check()
    return apply(connect(Access(request.context)), request, template)


def list_cron_jobs(namespace: str | None, context: str | None) -> list[Entry]:
    """Return the schedules in a namespace; raises cluster errors as :func:`apply_cron_job` does."""
    return list_schedules(connect(Access(context)), _namespace(namespace))


def remove_cron_job(name: str, namespace: str | None, context: str | None) -> list[str]:
    """Remove a schedule and return what was removed; raises cluster errors as :func:`apply_cron_job` does."""
    return remove(connect(Access(context)), name, _namespace(namespace))


def _namespace(namespace: str | None) -> str:
    return namespace or objects.namespace_of(None, objects.load_template())


# ZenML


def apply_with_zenml(request: ScheduleRequest) -> Applied:
    """Schedule ``personalize`` for one style set with the active stack's orchestrator.

    Each run takes finished work from the cache, trains if the pictures have changed, and registers the model; no gate is applied. The
    resolved configuration, including the base's digest, is fixed now. Raises InputError if the orchestrator does not support schedules.
    """
    _refuse_options(request)
    cron = parse_cron(request.cron)
    source = (f"style.source={request.source}",) if request.source else ()
    config = load_config(request.config, (*request.overrides, *source))
    objects.check_travels(config, config.style.source)
    client = _open_stack()
    from runs.plan import plan_run

    plan = plan_run(config)
    # In a normal run, a new value for a URL makes the step read the pictures again. Here the step itself is never cached.
    plan["scan"]["content"] = "scheduled"
    before = _find(client, request.name)
    if before is not None and before.cron_expression == cron and _plan_of(client, before) == plan:
        status = "unchanged"
    else:
        status = "created" if before is None else "changed"
        if not request.dry_run:
            _replace(client, request.name, cron, plan, config.style.name, before)
    times = tuple(moment.isoformat() for moment in next_times(cron, 3))
    return Applied(request.name, f"ZenML stack {client.active_stack_model.name}", status, "zenml", False, times, (), (), request.dry_run)


def _refuse_options(request: ScheduleRequest) -> None:
    given = {
        "--namespace": request.namespace, "--context": request.context, "--image": request.image, "--time-zone": request.time_zone,
        "--suspend": request.suspend, "--to": request.alias != "champion", "--no-promote": not request.promote,
        "--service-account": request.service_account, "--gate": request.gate, "--home-claim": request.claim, "--requests": request.requests,
    }  # fmt: skip
    for option, value in given.items():
        # False is a value too: it stands for --resume.
        if value not in (None, False) or (option == "--suspend" and value is not None):
            raise InputError(
                f"{option} with --as zenml", "is not for ZenML's schedules", expected="the pod's settings in zenml.yaml, and times in UTC",
                remedy="omit it, or install a CronJob without --as zenml",
            )  # fmt: skip


def _open_stack() -> Client:
    """Return ZenML's client; InputError if the active stack does not support schedules."""
    from orchestration.client import connect as connect_zenml

    client = connect_zenml()
    stack = client.active_stack
    if not stack.orchestrator.config.is_schedulable:
        raise InputError(
            f"ZenML stack {stack.name}", f"its orchestrator ({stack.orchestrator.flavor}) does not support schedules",
            expected="a stack with one that does, such as kubernetes", remedy="install a CronJob without --as zenml, or call the command "
            "from cron",
        )  # fmt: skip
    return client


def _find(client: Client, name: str) -> ScheduleResponse | None:
    """Return the schedule of that name, or None; InputError if it belongs to another pipeline."""
    found = client.list_schedules(name=f"equals:{name}", hydrate=True).items
    if not found:
        return None
    if found[0].pipeline_id not in _pipelines(client):
        raise InputError(
            f"ZenML's schedule {name}", f"belongs to another pipeline than {_PIPELINE}", expected="an unused name",
            remedy="choose another name",
        )  # fmt: skip
    return found[0]


def _pipelines(client: Client) -> list[Any]:
    return [item.id for item in client.list_pipelines(name=f"equals:{_PIPELINE}").items]


def _plan_of(client: Client, known: ScheduleResponse) -> Any:
    """Return the plan that a schedule runs; None if ZenML has no record of it."""
    found = client.list_snapshots(schedule_id=known.id, named_only=False, hydrate=True).items
    return (found[0].pipeline_configuration.parameters or {}).get("plan") if found else None


def _replace(client: Client, name: str, cron: str, plan: Plan, style: str, before: ScheduleResponse | None) -> None:
    """Create the schedule, deleting an existing one: ZenML can change a schedule's times but not what it runs."""
    from zenml.config.schedule import Schedule

    from orchestration.client import stack_flavors
    from orchestration.settings import default_settings_file, settings_for
    from pipelines.personalize import personalize

    options: dict[str, Any] = {
        "schedule": Schedule(name=name, cron_expression=cron), "run_name": f"{name}-{style}-{{date}}-{{time}}",
        "steps": {"scan": {"enable_cache": False}},
    }  # fmt: skip
    if (settings := default_settings_file()) is not None:
        options["config_path"] = str(settings_for(settings, stack_flavors()))
    if before is not None:
        client.delete_schedule(before.id, soft=False)
    try:
        personalize.with_options(**options)(plan=plan)
    except Exception:
        # ZenML records a schedule before the orchestrator accepts it.
        for left in client.list_schedules(name=f"equals:{name}").items:
            client.zen_store.delete_schedule(left.id, soft=False)
        raise


def list_with_zenml() -> list[Entry]:
    """Return ZenML's schedules of ``personalize``, sorted by name."""
    client = _open_stack()
    known = [item for pipeline in _pipelines(client) for item in client.list_schedules(pipeline_id=pipeline, hydrate=True).items]
    return sorted((_entry(client, item) for item in known), key=lambda entry: entry.name)


def _entry(client: Client, item: ScheduleResponse) -> Entry:
    plan, cron = _plan_of(client, item) or {}, item.cron_expression or ""
    try:
        times = tuple(moment.isoformat() for moment in next_times(parse_cron(cron), 3)) if item.active else ()
    except InputError:
        times = ()
    source = str(plan.get("scan", {}).get("source", ""))
    place = f"ZenML stack {client.active_stack_model.name}"
    return Entry(item.name, place, cron, "Etc/UTC", not item.active, source, "", 0, None, None, times)


def remove_with_zenml(name: str) -> list[str]:
    """Remove a schedule from ZenML and its orchestrator; return what was removed."""
    client = _open_stack()
    found = _find(client, name)
    if found is None:
        raise InputError(name, "no such schedule in ZenML", expected="one that `styleforge schedule list --as zenml` shows")
    client.delete_schedule(found.id, soft=False)
    return [f"Schedule {name}"]
