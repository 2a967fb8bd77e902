"""Whether a pod fits a node by selectors, affinity, taints and size, as the scheduler filters (kubernetes.io, "Assigning Pods to Nodes").

Affinity between pods and topology spread depend on what is currently running where, and are not checked.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import yaml

from components.cluster.client import Manifest
from components.core.errors import InputError

_BLOCKING = ("NoSchedule", "NoExecute")
_POOL_KEYS = ("name", "labels", "taints", "allocatable")
_POOL = "{labels: {pool: gpu}, taints: ['nvidia.com/gpu=present:NoSchedule'], allocatable: {cpu: 8, memory: 30Gi, nvidia.com/gpu: 1}}"


def quantity(value: Any) -> Decimal:
    """A Kubernetes quantity (``500m``, ``2Gi``) as a number of cores, bytes or units; ValueError for anything else."""
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(value))


def requests_of(spec: Manifest) -> dict[str, Decimal]:
    """A pod's requests by resource: the sum over its containers, or its largest init container's if that is more."""
    total = _sum([_container_requests(container) for container in spec.get("containers") or []])
    for container in spec.get("initContainers") or []:
        for name, amount in _container_requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    return total


def _container_requests(container: Manifest) -> dict[str, Decimal]:
    # A limit without a request counts as the request too.
    return {name: quantity(value) for name, value in {**_resources(container, "limits"), **_resources(container, "requests")}.items()}


def _resources(container: Manifest, kind: str) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get(kind) or {}


def _sum(parts: Sequence[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    names = {name for part in parts for name in part}
    return {name: sum((part.get(name, Decimal(0)) for part in parts), Decimal(0)) for name in names}


def misfits(spec: Manifest, node: Manifest) -> list[str]:
    """Why a pod cannot run on a node, each reason in words; empty if it can."""
    labels = (node.get("metadata") or {}).get("labels") or {}
    reasons = [f"has no label {key}={value}" for key, value in (spec.get("nodeSelector") or {}).items() if labels.get(key) != str(value)]
    if not affine(spec, node):
        reasons.append("does not match the node affinity")
    tolerations = spec.get("tolerations") or []
    reasons += [f"has the taint {_spell(taint)}, which is not tolerated" for taint in _taints(node) if not tolerated(taint, tolerations)]
    reasons += _too_small(spec, node)
    if not _ready(node):
        reasons.append("is not ready")
    return reasons


def affine(spec: Manifest, node: Manifest) -> bool:
    """Whether a node meets the required node affinity: at least one term with all of its expressions."""
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    labels = (node.get("metadata") or {}).get("labels") or {}
    fields = {"metadata.name": (node.get("metadata") or {}).get("name", "")}
    return any(_term(term, labels, fields) for term in required.get("nodeSelectorTerms") or [])


def _term(term: Manifest, labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    expressions, places = term.get("matchExpressions") or [], term.get("matchFields") or []
    # A term without any expression matches nothing.
    if not expressions and not places:
        return False
    return all(matches(item, labels) for item in expressions) and all(matches(item, fields) for item in places)


def matches(expression: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether labels meet one expression: In, NotIn, Exists, DoesNotExist, Gt or Lt."""
    key, operator, values = expression["key"], expression["operator"], [str(value) for value in expression.get("values") or []]
    found = labels.get(key)
    if operator in ("Exists", "DoesNotExist"):
        return (found is not None) == (operator == "Exists")
    if operator == "NotIn":
        return found is None or found not in values
    if found is None:
        return False
    if operator == "In":
        return found in values
    try:
        number, bound = int(found), int(values[0])
    except (ValueError, IndexError):
        return False
    return (operator == "Gt" and number > bound) or (operator == "Lt" and number < bound)


def _taints(node: Manifest) -> Iterator[Manifest]:
    spec = node.get("spec") or {}
    taints = [taint for taint in spec.get("taints") or [] if taint.get("effect") in _BLOCKING]
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    if spec.get("unschedulable") and all(taint["key"] != cordoned["key"] for taint in taints):
        taints.append(cordoned)
    yield from taints


def tolerated(taint: Manifest, tolerations: Sequence[Manifest]) -> bool:
    """Whether any toleration covers a taint; an empty key covers all keys, an empty effect all effects."""
    return any(_covers(toleration, taint) for toleration in tolerations)


def _covers(toleration: Manifest, taint: Manifest) -> bool:
    operator = toleration.get("operator") or "Equal"
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if not toleration.get("key"):
        return bool(operator == "Exists")
    if toleration["key"] != taint["key"]:
        return False
    return bool(operator == "Exists" or (operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")))


def _spell(taint: Manifest) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"


def _too_small(spec: Manifest, node: Manifest) -> Iterator[str]:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    for name, wanted in sorted(requests_of(spec).items()):
        if wanted > 0 and name not in allocatable:
            yield f"has no {name}"
        elif wanted > 0 and quantity(allocatable[name]) < wanted:
            yield f"has {amount(name, quantity(allocatable[name]))} {name}, but {amount(name, wanted)} is requested"


def amount(name: str, value: Decimal) -> str:
    """A quantity in readable form: bytes as GiB or MiB, all else as a plain number."""
    if name.split(".")[-1] in ("memory", "ephemeral-storage", "storage"):
        return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    return f"{value.normalize():f}"


def _ready(node: Manifest) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return all(item.get("status") == "True" for item in conditions if item.get("type") == "Ready")


def parse_pool(text: str) -> Manifest:
    """Parse a pool that an autoscaler scales up from zero into the node that it would add; InputError for text of another form.

    ``text`` is YAML with ``allocatable`` and, optionally, ``labels``, ``taints`` (``key=value:Effect``) and ``name``.
    """
    where = f"--assume-pool {text.strip()[:60]!r}"
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(where, f"not YAML ({' '.join(str(error).split())})", expected=f"YAML such as {_POOL}") from error
    if not isinstance(data, dict) or not set(data) <= set(_POOL_KEYS) or not isinstance(data.get("allocatable"), dict):
        raise InputError(where, "not a pool description", expected=f"keys among {', '.join(_POOL_KEYS)}, such as {_POOL}")
    try:
        allocatable = {str(name): str(value) for name, value in data["allocatable"].items()}
        for value in allocatable.values():
            quantity(value)
        labels = {str(key): str(value) for key, value in (data.get("labels") or {}).items()}
        taints = [_parse_taint(item) for item in data.get("taints") or []]
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(where, str(error), expected=f"YAML such as {_POOL}") from error
    return {
        "metadata": {"name": str(data.get("name") or "assumed"), "labels": labels},
        "spec": {"taints": taints},
        "status": {"allocatable": allocatable},
    }


def _parse_taint(text: Any) -> Manifest:
    place, separator, effect = str(text).rpartition(":")
    key, _, value = place.partition("=")
    if not separator or not key or effect not in (*_BLOCKING, "PreferNoSchedule"):
        raise ValueError(f"{text!r} is not a taint of the form key=value:NoSchedule")
    return {"key": key, "value": value, "effect": effect}
