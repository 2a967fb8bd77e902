"""What a cluster reports about itself, gathered once as plain data; what may not be read is None, not an error."""

import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TypeVar

import yaml

from components.cluster.client import Cluster, Forbidden, Manifest, NotFound, http_status
from components.cluster.target import PodPlan, Target
from components.core.errors import StyleForgeError

Answer = TypeVar("Answer")
# What ZenML's orchestrator does with the API, here and in its own pod: verb, group, resource.
NEEDED = (
    *((verb, "batch", "jobs") for verb in ("create", "get", "list", "patch", "delete")),
    ("get", "", "pods"), ("list", "", "pods"), ("get", "", "pods/log"),
)  # fmt: skip
# What a person needs in addition; the first is for the dry run of pods.
USEFUL = (
    ("create", "", "pods"), ("delete", "", "pods"), *((verb, "", "configmaps") for verb in ("create", "get", "list", "delete")),
)  # fmt: skip
# What ZenML needs to create a service account for itself if none is named.
MAKING_ACCOUNTS = (("create", "", "serviceaccounts"), ("create", "rbac.authorization.k8s.io", "rolebindings"))
_AUTHORIZATION = "/apis/authorization.k8s.io/v1"


@dataclass(frozen=True)
class NodeGroup:
    """A node pool of the cluster autoscaler, with ``size`` nodes now and at most ``most``."""

    name: str
    size: int
    most: int


@dataclass(frozen=True)
class Trial:
    """The API server's answer to a pod in a dry run; ``refusal`` says why it was refused, or why it could not be ``tried``."""

    plan: PodPlan
    refusal: str = ""
    tried: bool = True


@dataclass
class Inventory:
    """What was found in the cluster; the ``denied`` fields list the actions that are not allowed, such as ``create jobs``."""

    namespace: bool | None = None
    denied: list[str] = field(default_factory=list)
    denied_useful: list[str] = field(default_factory=list)
    denied_runner: list[str] | None = None
    denied_accounts: list[str] = field(default_factory=list)
    accounts: list[str] | None = None
    priorities: list[str] | None = None
    nodes: list[Manifest] | None = None
    groups: list[NodeGroup] | None = None
    trials: list[Trial] | None = None
    claims: list[Manifest] | None = None
    classes: list[Manifest] | None = None


def gather(cluster: Cluster, target: Target) -> Inventory:
    """Ask for everything that the checks need; ClusterUnreachable if the API server stops answering, ClusterError if it fails."""
    place = f"/api/v1/namespaces/{target.namespace}"
    found = Inventory(namespace=_namespace(cluster, place))
    found.nodes = _may(lambda: cluster.items("/api/v1/nodes"))
    found.priorities = _names(_may(lambda: cluster.items("/apis/scheduling.k8s.io/v1/priorityclasses")))
    found.classes = _may(lambda: cluster.items("/apis/storage.k8s.io/v1/storageclasses"))
    found.groups = _may(lambda: _autoscaler(cluster))
    if found.namespace is False:
        return found
    found.denied = _denied(cluster, target, NEEDED)
    found.denied_useful = _denied(cluster, target, USEFUL)
    found.accounts = _names(_may(lambda: cluster.items(f"{place}/serviceaccounts")))
    if target.runner:
        user = f"system:serviceaccount:{target.namespace}:{target.runner}"
        found.denied_runner = _may(lambda: _denied(cluster, target, NEEDED, user))
    elif target.makes_account:
        found.denied_accounts = _denied(cluster, target, MAKING_ACCOUNTS)
    if "create pods" not in found.denied_useful:
        found.trials = [_try(cluster, f"{place}/pods", plan) for plan in target.pods]
    found.claims = _may(lambda: cluster.items(f"{place}/persistentvolumeclaims"))
    return found


def _try(cluster: Cluster, path: str, plan: PodPlan) -> Trial:
    """Send a pod with ``dryRun``: it goes through all of admission (quotas, limit ranges, Pod Security, webhooks) but is not created."""
    pod: Manifest = {"apiVersion": "v1", "kind": "Pod", **deepcopy(plan.manifest)}
    pod["metadata"] = {**(pod.get("metadata") or {}), "generateName": "styleforge-dry-run-"}
    for container in pod["spec"]["containers"]:
        container["image"] = container.get("image") or "not-built-yet"
    try:
        cluster.create(path, pod, dryRun="All")
    except StyleForgeError as error:
        if (status := http_status(error)) not in (400, 403, 422):
            raise
        # A webhook that does not support dry runs leads to a 400.
        return Trial(plan, error.problem, tried=status != 400)
    return Trial(plan)


def _may(ask: Callable[[], Answer]) -> Answer | None:
    try:
        return ask()
    except Forbidden:
        return None


def _names(found: list[Manifest] | None) -> list[str] | None:
    return None if found is None else [item["metadata"]["name"] for item in found]


def _namespace(cluster: Cluster, place: str) -> bool | None:
    try:
        cluster.get(place)
    except NotFound:
        return False
    except Forbidden:
        return None
    return True


def _denied(cluster: Cluster, target: Target, actions: Iterable[tuple[str, str, str]], user: str | None = None) -> list[str]:
    kind, path = ("SubjectAccessReview", "subjectaccessreviews") if user else ("SelfSubjectAccessReview", "selfsubjectaccessreviews")
    denied = []
    for verb, group, resource in actions:
        name, _, part = resource.partition("/")
        spec: Manifest = {
            "resourceAttributes": {"namespace": target.namespace, "verb": verb, "group": group, "resource": name, "subresource": part}
        }
        if user:
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{target.namespace}", "system:authenticated"]
            spec |= {"user": user, "groups": groups}
        answer = cluster.create(f"{_AUTHORIZATION}/{path}", {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec})
        if not (answer.get("status") or {}).get("allowed"):
            denied.append(f"{verb} {resource}")
    return denied


def _autoscaler(cluster: Cluster) -> list[NodeGroup]:
    try:
        found = cluster.get("/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status")
    except NotFound:
        return []
    return node_groups(str((found.get("data") or {}).get("status") or ""))


def node_groups(status: str) -> list[NodeGroup]:
    """The node pools in the cluster autoscaler's status, which is plain text up to release 1.29 and YAML since."""
    try:
        data = yaml.safe_load(status)
    except yaml.YAMLError:
        data = None
    if isinstance(data, dict) and isinstance(data.get("nodeGroups"), list):
        healths = [(str(item.get("name")), item.get("health") or {}) for item in data["nodeGroups"]]
        return [NodeGroup(name, int(health.get("cloudProviderTarget") or 0), int(health.get("maxSize") or 0)) for name, health in healths]
    rows = re.findall(r"Name:\s+(\S+)\s+Health:.*?cloudProviderTarget=(\d+).*?maxSize=(\d+)", status, re.S)
    return [NodeGroup(name, int(size), int(most)) for name, size, most in rows]
