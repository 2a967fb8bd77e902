"""Install, change, list and remove schedules in a cluster. Objects that ``styleforge schedule`` did not make are never touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from components.cluster import schedule_manifests
from components.cluster.client import Cluster, Forbidden, Manifest, NotFound, http_status
from components.cluster.cron_expression import UTC_NAMES, next_times, parse_cron, zone
from components.cluster.schedule_manifests import ScheduleRequest
from components.core.errors import InputError, StyleForgeError

_TRIES = 3
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_PATHS = {
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps", "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts", "PriorityClass": "/apis/scheduling.k8s.io/v1/priorityclasses",
}  # fmt: skip


@dataclass(frozen=True)
class Applied:
    """The result of applying a schedule.

    ``status`` is ``created``, ``changed`` or ``unchanged``, in a dry run what it would be; ``missing`` names the objects that the pod
    needs and the cluster lacks.
    """

    name: str
    namespace: str
    status: str
    api_version: str
    suspended: bool
    next: tuple[str, ...]
    missing: tuple[str, ...]
    objects: tuple[Manifest, ...]
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The result as plain JSON, with the objects only in a dry run, since they are long."""
        return {key: value for key, value in asdict(self).items() if key != "objects" or self.dry_run}


@dataclass(frozen=True)
class Entry:
    """One listed schedule. Times are ISO 8601; ``next`` is empty while the schedule is suspended."""

    name: str
    namespace: str
    cron: str
    time_zone: str
    suspended: bool
    source: str
    image: str
    active: int
    last: str | None
    last_success: str | None
    next: tuple[str, ...]


def apply(cluster: Cluster, request: ScheduleRequest, template: Mapping[str, Any]) -> Applied:
    """Install a schedule, or change it to match the request.

    InputError if the name is taken by an object that we did not make, the namespace is missing, or the cluster refuses an object or time
    zone; ClusterError if the API refuses (a right is missing), ClusterUnreachable if it does not answer.
    """
    request.check()
    place = _Namespace(cluster, schedule_manifests.namespace_of(request.namespace, template))
    for _ in range(_TRIES):
        # If the object changes in between (the controller records its starts there), look again.
        if (applied := _apply(place, request, template)) is not None:
            return applied
    raise InputError(request.name, "keeps being changed by someone else", remedy="try again")


def _apply(place: _Namespace, request: ScheduleRequest, template: Mapping[str, Any]) -> Applied | None:
    live = place.get("CronJob", request.name)
    old_map = place.get("ConfigMap", schedule_manifests.config_name(request.name))
    _refuse_foreign(live, old_map)
    config, job = schedule_manifests.config_map(request, template), schedule_manifests.cron_job(request, template, place.version)
    if request.suspend is None and live is not None:
        job["spec"]["suspend"] = bool(live["spec"].get("suspend"))
    # Both are tried before either is written, so that a refusal leaves nothing half done.
    trials = [place.put(new, old, trial=True) for new, old in ((config, old_map), (job, live))]
    if None in trials:
        return None
    time_zone = job["spec"].get("timeZone")
    if time_zone != trials[1]["spec"].get("timeZone"):
        if time_zone not in UTC_NAMES:
            raise InputError(
                f"--time-zone {time_zone}", "this cluster's CronJobs do not support time zones; Kubernetes 1.25 does",
                expected=UTC_NAMES[0], remedy="omit it, and give --cron in UTC",
            )  # fmt: skip
        del job["spec"]["timeZone"]
    stale = [_differs(old, trial) for old, trial in zip((old_map, live), trials, strict=True)]
    made = list(trials)
    if not request.dry_run:
        for number, (new, old) in enumerate(((config, old_map), (job, live))):
            if stale[number]:
                made[number] = place.put(new, old)
        if None in made:
            return None
    status = "created" if live is None else "changed" if any(stale) else "unchanged"
    missing = tuple(f"{kind} {name}" for kind, name in schedule_manifests.needs(job) if place.lacks(kind, name))
    entry = _entry(made[1])
    version = str(job["apiVersion"])
    return Applied(
        request.name, place.name, status, version, entry.suspended, entry.next, missing, tuple(map(_tidy, made)), request.dry_run
    )


def _tidy(item: Manifest) -> Manifest:
    return {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "managedFields"}}


def _refuse_foreign(*found: Manifest | None) -> None:
    for item in found:
        if item is not None and not schedule_manifests.is_ours(item):
            name = item["metadata"]["name"]
            raise InputError(
                f"{item.get('kind', 'object')} {name}", "was not made by `styleforge schedule`", expected="an unused name",
                remedy="choose another name, or remove it with kubectl",
            )  # fmt: skip


def _differs(old: Manifest | None, trial: Manifest) -> bool:
    """Whether the write would change the object; the server has filled in its defaults in both."""
    if old is None:
        return True

    def content(item: Manifest) -> tuple[Any, ...]:
        return item.get("spec"), item.get("data"), item["metadata"].get("labels")

    return content(old) != content(trial)


def list_schedules(cluster: Cluster, namespace: str) -> list[Entry]:
    """The schedules of a namespace that ``styleforge schedule`` made, by name."""
    place = _Namespace(cluster, namespace)
    return sorted((_entry(item) for item in place.mine()), key=lambda entry: entry.name)


def remove(cluster: Cluster, name: str, namespace: str) -> list[str]:
    """Remove a schedule with its configuration, its Jobs and their pods, including running ones.

    Returns the kind and name of each object deleted by name: the CronJob and its ConfigMap. InputError if there is no schedule of that
    name or ``styleforge schedule`` did not make it; API errors as in :func:`apply`.
    """
    place = _Namespace(cluster, namespace)
    objects = {("CronJob", name): place.get("CronJob", name)}
    objects["ConfigMap", schedule_manifests.config_name(name)] = place.get("ConfigMap", schedule_manifests.config_name(name))
    _refuse_foreign(*objects.values())
    found = {key: item for key, item in objects.items() if item is not None}
    if not found:
        known = ", ".join(sorted(item["metadata"]["name"] for item in place.mine()))
        raise InputError(name, f"no such schedule in namespace {namespace}", expected=f"one of {known}" if known else "")
    return [f"{kind} {item}" for kind, item in found if place.delete(kind, item, found[kind, item])]


def _entry(job: Mapping[str, Any]) -> Entry:
    spec, status = job["spec"], job.get("status") or {}
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    arguments = [schedule_manifests.unescape(argument) for argument in container.get("args") or []]
    source = arguments[arguments.index("--source") + 1] if "--source" in arguments[:-1] else ""
    suspended = bool(spec.get("suspend"))
    return Entry(
        name=job["metadata"]["name"], namespace=job["metadata"]["namespace"], cron=spec["schedule"],
        time_zone=spec.get("timeZone") or UTC_NAMES[0], suspended=suspended, source=source, image=container["image"],
        active=len(status.get("active") or []), last=status.get("lastScheduleTime"), last_success=status.get("lastSuccessfulTime"),
        next=() if suspended else _next(spec["schedule"], spec.get("timeZone")),
    )  # fmt: skip


def _next(cron: str, time_zone: str | None) -> tuple[str, ...]:
    try:
        return tuple(moment.isoformat() for moment in next_times(parse_cron(cron), 3, where=zone(time_zone)))
    except InputError:
        return ()  # Changed by hand to something that Kubernetes accepts and we do not, such as @every.


class _Namespace:
    """Requests in one namespace, as plain JSON: the client's models know only the newest API, and old servers have another one."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name, self.version = cluster, name, "v1"
        known = cluster.get("/apis/batch/v1")["resources"]
        if not any(item["name"] == "cronjobs" for item in known):
            self.version = "v1beta1"  # Before Kubernetes 1.21.

    def get(self, kind: str, name: str) -> Manifest | None:
        try:
            return self.cluster.get(self._path(kind, name))
        except NotFound:
            return None

    def mine(self) -> list[Manifest]:
        return self.cluster.items(self._path("CronJob"), labelSelector=f"{schedule_manifests.MANAGED_BY}={schedule_manifests.MANAGER}")

    def put(self, new: Manifest, old: Manifest | None, *, trial: bool = False) -> Any:
        """Write the object and return it as the server holds it now, or would after a ``trial``; None if it has changed meanwhile."""
        query = {"dryRun": "All"} if trial else {}
        try:
            if old is None:
                return self.cluster.send("POST", self._path(new["kind"]), body=new, query=query)
            # Keep the metadata that others have added.
            labels = {**(old["metadata"].get("labels") or {}), **new["metadata"]["labels"]}
            metadata = {**_tidy(old)["metadata"], "labels": labels}
            path = self._path(new["kind"], new["metadata"]["name"])
            return self.cluster.send("PUT", path, body={**new, "metadata": metadata}, query=query)
        except NotFound as error:
            if old is not None:
                return None  # It has been removed since.
            raise InputError(
                f"namespace {self.name}", "does not exist", expected="one with all that the pod needs",
                remedy="apply infra/kubernetes first, see docs/how-to/kubernetes.md",
            ) from error  # fmt: skip
        except StyleForgeError as error:
            if http_status(error) == 409:
                return None
            if http_status(error) in (400, 422):
                raise InputError(f"{new['kind']} {new['metadata']['name']}", error.problem, expected="what the cluster accepts") from error
            raise

    def delete(self, kind: str, name: str, seen: Manifest) -> bool:
        """Delete the very object that was ``seen``, not a new one of its name; returns whether it was still there."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": seen["metadata"]["uid"]}}
        try:
            self.cluster.call("DELETE", self._path(kind, name), body=body)
        except NotFound:
            return False
        return True

    def lacks(self, kind: str, name: str) -> bool:
        """Whether the object is certainly missing. Only its metadata is requested, so that no Secret is read."""
        try:
            self.cluster.call("GET", self._path(kind, name), accept=_METADATA_ONLY)
        except NotFound:
            return True
        except Forbidden:
            pass
        return False

    def _path(self, kind: str, name: str = "") -> str:
        folder = f"/apis/batch/{self.version}/namespaces/{{namespace}}/cronjobs" if kind == "CronJob" else _PATHS[kind]
        path = folder.format(namespace=quote(self.name, safe=""))
        return f"{path}/{quote(name, safe='')}" if name else path
