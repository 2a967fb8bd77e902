"""Do a namespace's quotas and limit ranges let a pod in, as the API server's admission would judge it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from decimal import Decimal

from components.cluster.client import Manifest
from components.cluster.nodes import amount, limits_of, matches, quantity, requests_of

# What these count is asked of every pod that the quota covers.
_OBLIGING = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


def with_defaults(spec: Manifest, ranges: Sequence[Manifest]) -> Manifest:
    """A pod's specification with the requests and limits that limit ranges fill in."""
    spec = deepcopy(spec)
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        resources = container.setdefault("resources", None) or {}
        limits, requests = dict(resources.get("limits") or {}), dict(resources.get("requests") or {})
        # The API server does this one before any limit range is looked at.
        requests = {**limits, **requests}
        for item in _items(ranges, "Container"):
            requests = {**(item.get("defaultRequest") or {}), **requests}
            limits = {**(item.get("default") or {}), **limits}
        container["resources"] = {"limits": limits, "requests": requests}
    return spec


def out_of_range(spec: Manifest, ranges: Sequence[Manifest]) -> list[str]:
    """Where a pod breaks a limit range, in words; defaults must be in it already."""
    problems: list[str] = []
    for container in spec.get("containers") or []:
        one = {"containers": [container]}
        for item in _items(ranges, "Container"):
            problems += _broken(item, requests_of(one), limits_of(one), "the container")
    for item in _items(ranges, "Pod"):
        problems += _broken(item, requests_of(spec), limits_of(spec), "the pod")
    return problems


def _items(ranges: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [item for one in ranges for item in (one.get("spec") or {}).get("limits") or [] if item.get("type") == kind]


def _broken(item: Manifest, requests: dict[str, Decimal], limits: dict[str, Decimal], what: str) -> Iterator[str]:
    for name, bound in (item.get("max") or {}).items():
        highest = max(requests.get(name, Decimal(0)), limits.get(name, Decimal(0)))
        if name not in limits:
            yield f"{what} names no limit of {name}, which must be at most {bound}"
        elif highest > quantity(bound):
            yield f"{what} takes {amount(name, highest)} {name}, above the most, {bound}"
    for name, bound in (item.get("min") or {}).items():
        if name not in requests:
            yield f"{what} names no request of {name}, which must be at least {bound}"
        elif min(requests[name], limits.get(name, requests[name])) < quantity(bound):
            yield f"{what} takes {amount(name, requests[name])} {name}, below the least, {bound}"
    for name, bound in (item.get("maxLimitRequestRatio") or {}).items():
        if not requests.get(name) or name not in limits or limits[name] / requests[name] > quantity(bound):
            yield f"{what}'s limit of {name} is more than {bound} times its request"


def over_quota(spec: Manifest, quotas: Sequence[Manifest]) -> list[str]:
    """Which quotas refuse one such pod now, in words; limit ranges' defaults must be in it already."""
    return [problem for one in quotas if covers(one, spec) for problem in _exceeded(one, spec)]


def covers(quota: Manifest, spec: Manifest) -> bool:
    """Whether a quota counts a pod: all its scopes must hold."""
    wanted = quota.get("spec") or {}
    scopes = [{"scopeName": name, "operator": "Exists"} for name in wanted.get("scopes") or []]
    scopes += (wanted.get("scopeSelector") or {}).get("matchExpressions") or []
    return all(_in_scope(scope, spec) for scope in scopes)


def _in_scope(scope: Manifest, spec: Manifest) -> bool:
    name = scope["scopeName"]
    if name == "PriorityClass":
        labels = {"class": spec["priorityClassName"]} if spec.get("priorityClassName") else {}
        return matches({**scope, "key": "class"}, labels)
    terminating = spec.get("activeDeadlineSeconds") is not None
    best_effort = not any(requests_of(spec).get(kind) for kind in ("cpu", "memory"))
    between = any((spec.get("affinity") or {}).get(kind) for kind in ("podAffinity", "podAntiAffinity"))
    found = {
        "Terminating": terminating, "NotTerminating": not terminating, "BestEffort": best_effort, "NotBestEffort": not best_effort,
        "CrossNamespacePodAffinity": between,
    }  # fmt: skip
    return found.get(name, False)


def _exceeded(quota: Manifest, spec: Manifest) -> Iterator[str]:
    name = quota["metadata"]["name"]
    status = quota.get("status") or {}
    hard = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
    needs = _counted(spec)
    for resource, bound in sorted(hard.items()):
        if resource in _OBLIGING and resource not in needs:
            yield f"quota {name} counts {resource}, and the pod names none"
            continue
        used = quantity((status.get("used") or {}).get(resource, 0))
        kind = resource.partition(".")[2] if resource.startswith(("requests.", "limits.")) else resource
        left = max(quantity(bound) - used, Decimal(0))
        if needs.get(resource, Decimal(0)) > left:
            yield f"quota {name} has {amount(kind, left)} of {bound} {resource} left, and {amount(kind, needs[resource])} is asked for"


def _counted(spec: Manifest) -> dict[str, Decimal]:
    """What one Job with this pod adds to each counter of a quota."""
    requests, limits = requests_of(spec), limits_of(spec)
    one = Decimal(1)
    return {
        **{name: requests[name] for name in ("cpu", "memory", "ephemeral-storage") if name in requests},
        **{f"requests.{name}": value for name, value in requests.items()},
        **{f"limits.{name}": value for name, value in limits.items()},
        "pods": one, "count/pods": one, "count/jobs.batch": one,
    }  # fmt: skip
