"""A scheduled retraining on Kubernetes: a CronJob made from the manifest in infra/, and a ConfigMap with its configuration."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from components.cluster.client import Manifest
from components.cluster.cron_expression import UTC_NAMES, parse_cron, zone
from components.cluster.nodes import quantity
from components.core.config import RunConfig, config_text
from components.core.errors import InputError
from components.core.model_ref import EMBEDDED_BASES, is_hub_id
from components.core.paths import REPOSITORY

MANAGER = "styleforge-schedule"
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
CONFIG_FOLDER = "/etc/styleforge"
CONFIG_FILE = "config.yaml"
GATE_FILE = "gate.yaml"
TEMPLATE = REPOSITORY / "infra" / "kubernetes" / "base" / "retrain.yaml"
# A CronJob's name: Kubernetes appends eleven characters to it for a Job's name, which may have 63.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")
_MEBIBYTE = 2**20
_SCRATCH = "/tmp"
_HOME = "home"


@dataclass(frozen=True, kw_only=True)
class ScheduleRequest:
    """A schedule to install, as the command's options describe it.

    None leaves ``image``, ``service_account``, ``claim`` (the PersistentVolumeClaim of the pod's home), ``requests`` (the pod's resource
    requests, such as ``cpu=500m,memory=2Gi``) and ``namespace`` as in the manifest, ``suspend`` as in the cluster, ``gate`` (the file of
    rules) as in the image, and ``source``, for ZenML's schedules only, as in the configuration.
    """

    name: str
    config: Path
    cron: str
    source: str | None = None
    overrides: tuple[str, ...] = ()
    namespace: str | None = None
    context: str | None = None
    image: str | None = None
    time_zone: str | None = None
    suspend: bool | None = None
    alias: str = "champion"
    promote: bool = True
    service_account: str | None = None
    gate: Path | None = None
    claim: str | None = None
    requests: str | None = None
    dry_run: bool = False

    def check(self) -> None:
        """Raise InputError for a name, schedule, option or file size that Kubernetes would not accept."""
        if not _NAME.fullmatch(self.name):
            expected = "at most 52 characters of a-z, 0-9 and -, with a letter or digit at each end"
            raise InputError(self.name, "is not a valid CronJob name", expected=expected)
        parse_cron(self.cron)
        zone(self.time_zone)
        parse_requests(self.requests)
        words = {
            "--image": self.image, "--service-account": self.service_account, "--namespace": self.namespace, "--home-claim": self.claim,
        }  # fmt: skip
        for option, value in words.items():
            if value is not None and not re.fullmatch(r"\S+", value):
                raise InputError(f"{option} {value!r}", "is empty or contains spaces")
        if (size := sum(len(text.encode("utf-8")) for text in self.files.values())) > _MEBIBYTE:
            named = "--config" if self.gate is None else "--config and --gate together"
            raise InputError(named, f"{size:,} bytes are too many", expected=f"at most {_MEBIBYTE:,}, which a ConfigMap can hold")

    @cached_property
    def files(self) -> dict[str, str]:
        """The texts that are installed with the schedule, by file name."""
        places = {CONFIG_FILE: self.config} | ({GATE_FILE: self.gate} if self.gate else {})
        return {name: config_text(place) for name, place in places.items()}


def parse_requests(text: str | None) -> dict[str, str]:
    """CPU and memory quantities by name from ``cpu=500m,memory=2Gi``, empty for None; InputError for any other form or name."""
    found: dict[str, str] = {}
    for part in [] if text is None else text.split(","):
        name, separator, amount = (word.strip() for word in part.partition("="))
        try:
            good = name in ("cpu", "memory") and name not in found and quantity(amount) > 0
        except ValueError:
            good = False
        if not (separator and good):
            raise InputError(f"--requests {text!r}", f"{part!r} is not valid", expected="each at most once, such as cpu=500m,memory=2Gi")
        found[name] = amount
    return found


def load_template() -> Manifest:
    """The CronJob of the manifest, which ships with every installation."""
    documents = yaml.safe_load_all(TEMPLATE.read_text(encoding="utf-8"))
    return dict(next(document for document in documents if document and document["kind"] == "CronJob"))


def check_travels(config: RunConfig, source: str, volumes: Sequence[str] = ()) -> None:
    """Raise InputError for the first setting that the pod cannot resolve, such as a local path; paths on its ``volumes`` are accepted."""
    base, captions, scoring, url = config.base, config.captions, config.scoring, "a URL such as s3://bucket/styles"
    places: list[tuple[str, str | None, bool, str]] = [
        ("--source ", source, False, url), ("style.reference=", config.style.reference, False, url),
        ("aux.pool=", config.aux.pool, False, url),
        ("base.model=", base.model, _is_known(base.model, base.revision), "an embedded base or a hub id with base.revision"),
        ("captions.model=", captions.model, _is_known(captions.model or "", captions.revision), "a hub id with captions.revision"),
        ("scoring.extractor=", scoring.extractor, _is_known(scoring.extractor, scoring.extractor_revision),
         "`pocket`, `art` or a hub id with scoring.extractor_revision"),
        ("scoring.inception_weights=", scoring.inception_weights, False, "nothing"),
        ("sampling.bank=", config.sampling.bank, config.sampling.bank in ("builtin", "pocket", "art"), "`builtin`, `pocket` or `art`"),
        ("registry.tracking_uri=", config.registry.tracking_uri, False, "a server's URL"),
    ]  # fmt: skip
    for setting, place, known, expected in places:
        if place is None or known or _is_remote(place) or _is_on(place, volumes):
            continue
        expected += f", or a path on a volume of the pod ({', '.join(volumes)})" if volumes else ""
        raise InputError(
            f"{setting}{place}", "is a path on this machine, which the pod does not have", expected=expected,
            remedy="put it where the pod can reach it",
        )  # fmt: skip


def _is_known(model: str, revision: str | None) -> bool:
    return model in EMBEDDED_BASES or (bool(revision) and is_hub_id(model))


def volumes_of(template: Mapping[str, Any]) -> list[str]:
    """Mount paths of the pod's volumes, except its scratch space."""
    return [mount["mountPath"] for mount in _container(template)["volumeMounts"] if mount["mountPath"] != _SCRATCH]


def _is_remote(place: str) -> bool:
    """Whether a place is a URL that means the same everywhere; in a chain such as zip://*::s3://…, the last link decides."""
    scheme, separator, _ = place.rpartition("::")[2].partition("://")
    # SQLite's URLs are paths.
    return bool(separator) and scheme not in ("file", "local", "memory", "sqlite")


def _is_on(place: str, volumes: Sequence[str]) -> bool:
    scheme, separator, rest = place.rpartition("::")[2].partition("://")
    if scheme == "memory" and separator:
        return False
    # sqlite:////folder has one slash more than file:///folder.
    path = PurePosixPath((rest[1:] if scheme == "sqlite" else rest) if separator else scheme)
    return ".." not in path.parts and any(path.is_relative_to(volume) for volume in volumes)


def config_map(request: ScheduleRequest, template: Mapping[str, Any]) -> Manifest:
    """The ConfigMap with the configuration file, and with the gate's file if one was given."""
    return {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": _metadata(request, template, config_name(request.name)), "data": request.files,
    }  # fmt: skip


def cron_job(request: ScheduleRequest, template: Mapping[str, Any], version: str) -> Manifest:
    """The CronJob, made from the manifest's.

    With ``version`` v1beta1, UTC is left out: that API has no time zones and uses the control plane's, which is almost always UTC.
    """
    job: Manifest = copy.deepcopy(dict(template))
    job["apiVersion"] = f"batch/{version}"
    job["metadata"] = _metadata(request, template, request.name)
    labels = job["metadata"]["labels"] = {**template["metadata"].get("labels", {}), **_labels(request.name)}
    spec = job["spec"]
    spec["schedule"], spec["suspend"] = request.cron.strip(), bool(request.suspend)
    spec["timeZone"] = request.time_zone or UTC_NAMES[0]
    if version != "v1" and spec["timeZone"] in UTC_NAMES:
        del spec["timeZone"]
    # So that the Jobs and pods can be found by the schedule's name.
    spec["jobTemplate"].setdefault("metadata", {}).setdefault("labels", {}).update(labels)
    pod = spec["jobTemplate"]["spec"]["template"]
    pod["metadata"].setdefault("labels", {}).update(_labels(request.name))
    _fill(pod["spec"], _container(job), request)
    return job


def _fill(pod: Manifest, container: Manifest, request: ScheduleRequest) -> None:
    if request.service_account:
        pod["serviceAccountName"] = request.service_account
    if request.image:
        container["image"] = request.image
    if request.claim:
        (home,) = (volume for volume in pod["volumes"] if volume["name"] == _HOME)
        home["persistentVolumeClaim"]["claimName"] = request.claim
    resources = container["resources"]
    for name, amount in parse_requests(request.requests).items():
        resources["requests"][name] = amount
        if quantity(amount) > quantity(resources["limits"][name]):
            resources["limits"][name] = amount
    container["args"] = [escape(argument) for argument in arguments(request)]
    container["volumeMounts"].append({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True})
    pod["volumes"].append({"name": "config", "configMap": {"name": config_name(request.name)}})


def arguments(request: ScheduleRequest) -> Iterator[str]:
    """The arguments of ``styleforge`` in the pod."""
    yield from ("retrain", f"{CONFIG_FOLDER}/{CONFIG_FILE}", "--source", str(request.source))
    for override in request.overrides:
        yield from ("--set", override)
    yield from () if request.alias == "champion" else ("--to", request.alias)
    yield from () if request.gate is None else ("--gate", f"{CONFIG_FOLDER}/{GATE_FILE}")
    yield from () if request.promote else ("--no-promote",)
    yield from ("--json", "--log-format", "json")


def escape(argument: str) -> str:
    """Escape ``$`` so that Kubernetes expands no variable in an argument."""
    return argument.replace("$", "$$")


def unescape(argument: str) -> str:
    """The opposite of :func:`escape`."""
    return argument.replace("$$", "$")


def _metadata(request: ScheduleRequest, template: Mapping[str, Any], name: str) -> Manifest:
    return {"name": name, "namespace": namespace_of(request.namespace, template), "labels": _labels(request.name)}


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/part-of": "styleforge", INSTANCE: name, MANAGED_BY: MANAGER}


def is_ours(manifest: Mapping[str, Any]) -> bool:
    """Whether ``styleforge schedule`` made the object."""
    return (manifest["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER


def config_name(name: str) -> str:
    """Name of a schedule's ConfigMap."""
    return f"{name}-config"


def namespace_of(namespace: str | None, template: Mapping[str, Any]) -> str:
    """The requested namespace, else the manifest's."""
    return namespace or template["metadata"]["namespace"]


def needs(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of each object that the pod cannot start without, except its own ConfigMap."""
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    if account := pod.get("serviceAccountName"):
        yield "ServiceAccount", account
    if priority := pod.get("priorityClassName"):
        yield "PriorityClass", priority
    for entry in _container(job).get("envFrom", []):
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key in entry and not entry[key].get("optional"):
                yield kind, entry[key]["name"]
    for volume in pod.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]


def _container(job: Mapping[str, Any]) -> Manifest:
    container: Manifest
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return container
