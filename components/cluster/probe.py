"""A temporary pod that examines the services from inside the cluster, as a step sees them, and its findings as checks."""

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.cluster import in_cluster
from components.cluster.client import Cluster, Forbidden, Manifest
from components.cluster.nodes import quantity, requests_of
from components.cluster.target import GPU, PodPlan, Target
from components.core.checks import Check
from components.core.errors import StyleForgeError

LABEL = "styleforge/probe"
# The probe only looks, so it requests no more than this, whatever the step will request.
_REQUESTS = {"cpu": "100m", "memory": "256Mi"}
_POLL_SECONDS = 0.5
# A container that cannot start for this long will not recover by itself.
_PATIENCE_SECONDS = 6.0
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_NO_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """The outcome of the probe: the pod's ``answer``, or the ``problem`` that prevented one."""

    answer: dict[str, Any] | None = None
    problem: str = ""
    remedy: str = ""
    seconds: float = 0.0
    image: str = ""


@dataclass
class _Watch:
    """What has been seen of the probe so far."""

    state: str = "no pod was made"
    since: float | None = None
    complaint: str = ""
    events: list[str] = field(default_factory=list)


def choose(target: Target) -> PodPlan | None:
    """The pod for the probe to imitate: the registration's if it takes no GPU, else the first without one, else the first."""
    plain = [plan for plan in target.pods if not _takes_gpu(plan)]
    ordered = [plan for plan in plain if "register" in plan.steps] + plain + list(target.pods)
    return next((plan for plan in ordered if plan.image), None)


def _takes_gpu(plan: PodPlan) -> bool:
    return requests_of(plan.spec).get(GPU, 0) > 0


def probe(cluster: Cluster, target: Target, plan: PodPlan, seconds: float) -> Outcome:
    """Run the probe for at most ``seconds`` and return its outcome.

    Its Job is deleted whatever happens, even on Ctrl-C; if the server cannot be reached for that, the Job expires by itself.
    """
    started = time.monotonic()
    place = f"/apis/batch/v1/namespaces/{target.namespace}/jobs"
    job = job_for(target, plan, seconds)
    try:
        with _gone_afterwards(cluster, f"{place}/{job['metadata']['name']}"):
            cluster.create(place, job)
            outcome = _wait(cluster, target.namespace, job["metadata"]["name"], started + seconds)
    except Forbidden as error:
        outcome = Outcome(problem=error.problem, remedy="ask the cluster's administrator for permission")
    except StyleForgeError as error:
        if error.exit_code != 1:
            raise
        outcome = Outcome(problem=error.problem, remedy="fix the pod settings in zenml.yaml")
    outcome.seconds, outcome.image = time.monotonic() - started, plan.image
    return outcome


@contextmanager
def _gone_afterwards(cluster: Cluster, path: str) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            cluster.delete(path)
        except StyleForgeError as error:
            # Its deadline ends it, and Kubernetes removes it (ttlSecondsAfterFinished).
            _logger.warning("the probe could not be deleted: %s", error)


def job_for(target: Target, plan: PodPlan, seconds: float) -> Manifest:
    """The probe as a Job, since a user who runs pipelines may create Jobs but perhaps not pods."""
    request = {"versions": dict(target.versions), **asdict(target.services)}
    pod = deepcopy(plan.manifest)
    spec = pod["spec"]
    container = spec["containers"][0]
    container["command"] = ["python", "-c", Path(in_cluster.__file__).read_text(encoding="utf-8")]
    container["args"] = []
    container["env"] = [*(container.get("env") or []), {"name": in_cluster.REQUEST, "value": json.dumps(request)}]
    container["resources"] = _modest(container.get("resources") or {})
    spec |= {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "volumes": [_harmless(item) for item in spec.get("volumes") or []],
    }
    metadata = pod.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), LABEL: "doctor"}
    template = {"metadata": {"labels": labels, "annotations": metadata.get("annotations") or {}}, "spec": spec}
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": f"styleforge-probe-{secrets.token_hex(4)}", "labels": {LABEL: "doctor"}},
        "spec": {"backoffLimit": 0, "activeDeadlineSeconds": int(seconds) + 15, "ttlSecondsAfterFinished": 300, "template": template},
    }  # fmt: skip


def _modest(resources: Manifest) -> Manifest:
    limits = {name: value for name, value in (resources.get("limits") or {}).items() if name != GPU}
    wanted = {**limits, **(resources.get("requests") or {})}
    requests = {name: min(wanted.get(name, most), most, key=quantity) for name, most in _REQUESTS.items()}
    return {"limits": limits, "requests": requests}


def _harmless(volume: Manifest) -> Manifest:
    """Replace a claim with an empty folder: mounting it would bind it to this pod's zone, or wait for another pod's mount."""
    if "persistentVolumeClaim" in volume or "ephemeral" in volume:
        return {"name": volume["name"], "emptyDir": {}}
    return volume


def _wait(cluster: Cluster, namespace: str, name: str, end: float) -> Outcome:
    place = f"/api/v1/namespaces/{namespace}"
    seen = _Watch()
    while True:
        pods = cluster.items(f"{place}/pods", labelSelector=f"job-name={name}")
        if pods and (done := _ended(cluster, place, pods[0])):
            return done
        _look(seen, pods)
        if not pods:
            _hear(cluster, place, name, seen)
        now = time.monotonic()
        hopeless = seen.since is not None and now - seen.since > _PATIENCE_SECONDS
        if hopeless or now > end:
            if pods:
                _hear(cluster, place, pods[0]["metadata"]["name"], seen)
            return _given_up(seen, hopeless)
        time.sleep(_POLL_SECONDS)


def _ended(cluster: Cluster, place: str, pod: Manifest) -> Outcome | None:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    ended = next((item["state"]["terminated"] for item in statuses if "terminated" in (item.get("state") or {})), None)
    if ended is None:
        return None
    try:
        log = cluster.call("GET", f"{place}/pods/{pod['metadata']['name']}/log", query={"container": pod["spec"]["containers"][0]["name"]})
    except Forbidden as error:
        return Outcome(problem=f"no permission to read its log: {error.problem}", remedy="ask for the right to get pods/log")
    line = next((text for text in reversed(log.splitlines()) if text.startswith(in_cluster.MARK)), None)
    if line is not None:
        return Outcome(answer=json.loads(line.removeprefix(in_cluster.MARK)))
    last = (log.strip().splitlines() or [ended.get("message") or ended.get("reason") or "no output"])[-1]
    return Outcome(
        problem=f"Python does not start in the image (exit code {ended.get('exitCode')}): {last[:300]}",
        remedy="build the image with `make image`, or fix the security context and the volumes in zenml.yaml",
    )


def _look(seen: _Watch, pods: list[Manifest]) -> None:
    """Record what keeps the pod from starting, and since when."""
    status = (pods[0].get("status") or {}) if pods else {}
    waits = [(item.get("state") or {}).get("waiting") or {} for item in status.get("containerStatuses") or []]
    waiting = waits[0] if waits else {}
    unplaced = next((c for c in status.get("conditions") or [] if c.get("type") == "PodScheduled" and c.get("status") == "False"), None)
    reason = waiting.get("reason", "")
    if unplaced:
        seen.state, seen.complaint = "no node fits it", unplaced.get("message") or ""
    elif pods:
        seen.state = {"ContainerCreating": "the image is being pulled, or volumes are being mounted"}.get(reason, reason or "it started")
        seen.complaint = waiting.get("message") or seen.complaint
    if reason in _NO_IMAGE + _NO_CONTAINER:
        seen.state = reason
        seen.since = seen.since or time.monotonic()
    elif pods:
        seen.since = None


def _hear(cluster: Cluster, place: str, name: str, seen: _Watch) -> None:
    """Record the warnings about an object, oldest first; one about a pod that was refused outright soon ends the wait."""
    try:
        events = cluster.items(f"{place}/events", fieldSelector=f"involvedObject.name={name},type=Warning")
    except Forbidden:
        return
    events.sort(key=lambda event: event.get("lastTimestamp") or "")
    seen.events = [str(event.get("message") or "") for event in events]
    if any(event.get("reason") == "FailedCreate" for event in events):
        seen.state = "the pod is refused"
        seen.since = seen.since or time.monotonic()


def _given_up(seen: _Watch, hopeless: bool) -> Outcome:
    said = seen.complaint or (seen.events[-1] if seen.events else "")
    if seen.state in _NO_IMAGE:
        # Back-off events hide the reason, which is in the event of the first try.
        said = next((text for text in reversed(seen.events) if "Back-off" not in text and not text.startswith("Error: ")), said)
        remedy = "check the image's name in zenml.yaml (settings.docker.parent_image), push it, or name image_pull_secrets"
        return Outcome(problem=f"the image cannot be pulled ({seen.state}): {said}", remedy=remedy)
    if seen.state in _NO_CONTAINER:
        return Outcome(problem=f"{seen.state}: {said}", remedy="create the Secret or ConfigMap that it names, or fix the pod settings")
    if seen.state == "the pod is refused":
        return Outcome(problem=f"{seen.state}: {said}", remedy="fix the security context, the account or the resources in zenml.yaml")
    said = seen.events[-1] if seen.events else said
    late = "" if hopeless else "; timed out"
    return Outcome(
        problem=f"{seen.state}{': ' + said if said else ''}{late}", remedy="check the rows for nodes, or wait longer with --wait"
    )


def outcome_checks(target: Target, outcome: Outcome) -> Iterator[Check]:
    """Checks of the image, the packages, the folders and each service; only one check if the probe gave no answer."""
    answer = outcome.answer
    if answer is None:
        yield Check("probe", False, f"{outcome.image}: {outcome.problem}", outcome.remedy)
        return
    yield Check("probe", True, f"{outcome.image} runs, Python {answer['python']}, {outcome.seconds:.0f} s")
    yield from _packages(target, answer)
    code = answer["code"]
    remedy = "rebuild the image with `make image`"
    if code["ok"] is None:
        yield Check("code in the image", True, "none; ZenML ships it through the artifact store", needed=False)
    else:
        yield Check("code in the image", code["ok"], code["said"], "" if code["ok"] else remedy)
    for name, seen in answer["folders"].items():
        remedy = "mount a volume there, or set fsGroup, in the pod settings of zenml.yaml"
        yield Check(f"{name} in the pod", seen["ok"], seen["said"], "" if seen["ok"] else remedy)
    yield _zenml(target, answer["zenml"])
    yield _mlflow(answer["mlflow"], answer["mlflow_named"])
    yield _artifacts(answer["artifacts"])


def _packages(target: Target, answer: Mapping[str, Any]) -> Iterator[Check]:
    missing, other = answer["missing"], answer["other"]
    if missing:
        yield Check("packages in the image", False, f"missing: {', '.join(missing)}", "use an image built with `make image`")
    elif other:
        listing = "; ".join(f"{name} {found} (here {target.versions[name]})" for name, found in sorted(other.items())[:4])
        yield Check("packages in the image", False, listing, "build the image from the same constraints.txt", needed=False)
    else:
        yield Check("packages in the image", True, f"all {len(target.versions)} as on this machine")


def _zenml(target: Target, seen: Mapping[str, Any] | None) -> Check:
    name = "ZenML from inside"
    if seen is None or seen["ok"] is None:
        if target.mounts_local_stores:
            return Check(name, True, "a database file on the node's disk")
        remedy = "start a server in the cluster (infra/kubernetes), and `zenml login` to it"
        return Check(name, False, "its records are a file on this machine, which no pod can reach", remedy)
    return _service(name, seen, "let the pods reach it: check its address as seen from a pod, its Service and network policies")


def _mlflow(seen: Mapping[str, Any] | None, named: bool) -> Check:
    name = "MLflow from inside"
    remedy = "set MLFLOW_TRACKING_URI in env of the pod settings in zenml.yaml"
    if seen is None:
        return Check(name, False, "the pods have no address for it, and a file in a pod is lost with it", remedy, needed=False)
    if seen["ok"] is None:
        return Check(name, False, f"the pods use {seen['said']}, not a server", f"{remedy} to a server", needed=False)
    if seen["ok"] and not named:
        return Check(name, False, f"{seen['said']} answers, but the pods' environment does not name it", remedy, needed=False)
    return _service(name, seen, f"{remedy} to an address that pods reach; check its Service and the network policies")


def _artifacts(seen: Mapping[str, Any] | None) -> Check:
    name = "artifact store from inside"
    if seen is None:
        return Check(name, False, "the stack has none", "register one with the stack", needed=False)
    if seen["ok"] is None:
        return Check(name, True, seen["said"], needed=False)
    return _service(name, seen, "create the bucket, fix the endpoint in the stack, or let the pods through the network policies")


def _service(name: str, seen: Mapping[str, Any], remedy: str) -> Check:
    return Check(name, bool(seen["ok"]), str(seen["said"]), "" if seen["ok"] else remedy)
