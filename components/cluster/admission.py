"""The checks over plain data: what a cluster says of itself, beside what will run on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from components.cluster.client import Manifest
from components.cluster.inventory import Facts, NodeGroup
from components.cluster.nodes import misfits
from components.cluster.quota import out_of_range, over_quota, with_defaults
from components.cluster.storage import check_volumes
from components.cluster.target import GPU, PodPlan, Target
from components.core.checks import Check

# Tokens and signed requests of object stores are refused beyond some minutes.
SKEW_SECONDS = 60.0
ZENMLS_ACCOUNT = "zenml-service-account"
_ASK = "ask the cluster's administrator for a Role with it; infra/kubernetes/base/accounts.yaml has one"


def judge(target: Target, facts: Facts) -> list[Check]:
    """All checks that need no pod, in the order in which one would mend them."""
    checks = [_namespace(target, facts)]
    if facts.namespace is not False:
        checks += [*_rights(target, facts), *_accounts(target, facts)]
    checks += [*_priorities(target, facts), *_nodes(target, facts)]
    if facts.namespace is not False:
        checks += [*_limits(target, facts), *_quotas(target, facts), *check_volumes(target, facts)]
    return checks


def clock(skew: float) -> Check:
    """Whether this machine's clock goes with the server's; ``skew`` is in seconds, positive if the server is ahead."""
    ok = abs(skew) <= SKEW_SECONDS
    detail = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the cluster's" if abs(skew) >= 1 else "as the cluster's"
    return Check("clock", ok, detail, "" if ok else "set this machine's clock by NTP: tokens run out by it", needed=False)


def _namespace(target: Target, facts: Facts) -> Check:
    if facts.namespace is False:
        remedy = f"kubectl create namespace {target.namespace}, or apply infra/kubernetes, or name another with --namespace"
        return Check("namespace", False, f"{target.namespace} is not there", remedy)
    detail = target.namespace if facts.namespace else f"{target.namespace}, which may not be looked up"
    return Check("namespace", True, detail)


def _rights(target: Target, facts: Facts) -> Iterator[Check]:
    yield _allowed("rights", facts.denied, "Jobs, their pods and logs", _ASK)
    if facts.denied_useful:
        yield Check("further rights", False, f"may not {', '.join(facts.denied_useful)}", "no run needs them; people may", needed=False)
    if facts.denied_runner is not None and (facts.accounts is None or target.runner in facts.accounts):
        yield _allowed(
            f"rights of {target.runner}", facts.denied_runner, "Jobs, their pods and logs", "bind it to a Role with these rights"
        )


def _allowed(name: str, denied: Sequence[str], what: str, remedy: str) -> Check:
    return Check(name, not denied, f"may not {', '.join(denied)}" if denied else what, remedy if denied else "")


def _accounts(target: Target, facts: Facts) -> Iterator[Check]:
    name = "service accounts"
    if facts.accounts is None:
        yield _unseen(name, "service accounts")
        return
    missing = [account for account in target.accounts if account not in facts.accounts]
    if missing:
        remedy = f"kubectl -n {target.namespace} create serviceaccount {missing[0]}, or apply infra/kubernetes"
        yield Check(name, False, f"missing: {', '.join(missing)}", remedy)
    elif target.accounts:
        yield Check(name, True, ", ".join(target.accounts))
    if target.makes_account and ZENMLS_ACCOUNT not in facts.accounts:
        can = not facts.denied_accounts
        detail = f"none is named for the orchestrator; ZenML {'will make' if can else 'may not make'} {ZENMLS_ACCOUNT} with the role edit"
        yield Check(name, can, detail, "" if can else "set service_account_name of the orchestrator to one that may create Jobs")


def _priorities(target: Target, facts: Facts) -> Iterator[Check]:
    named = sorted({plan.spec["priorityClassName"] for plan in target.pods if plan.spec.get("priorityClassName")})
    if not named:
        return
    if facts.priorities is None:
        yield _unseen("priority classes", "priority classes")
        return
    missing = [name for name in named if name not in facts.priorities and not name.startswith("system-")]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(named)
    remedy = "apply infra/kubernetes, or name another priority class in zenml.yaml" if missing else ""
    yield Check("priority classes", not missing, detail, remedy)


def _nodes(target: Target, facts: Facts) -> Iterator[Check]:
    if facts.nodes is None:
        yield _unseen("nodes", "nodes")
        return
    for plan in alike(target.pods):
        yield node_check(plan, facts.nodes, target.pools, facts.groups)


def alike(pods: Sequence[PodPlan]) -> list[PodPlan]:
    """One plan for all pods that ask the same of a node, of a quota and of a limit range."""
    groups: dict[str, list[PodPlan]] = {}
    for plan in pods:
        spec = plan.spec
        asked = [spec.get(key) for key in ("nodeSelector", "affinity", "tolerations", "priorityClassName", "activeDeadlineSeconds")]
        sizes = [container.get("resources") for key in ("containers", "initContainers") for container in spec.get(key) or []]
        groups.setdefault(json.dumps([asked, sizes], sort_keys=True), []).append(plan)
    return [PodPlan(tuple(step for plan in group for step in plan.steps), group[0].manifest) for group in groups.values()]


def node_check(plan: PodPlan, nodes: Sequence[Manifest], pools: Sequence[Manifest], groups: Sequence[NodeGroup] | None) -> Check:
    """Whether a node is there that a pod fits, or one that an autoscaler would add."""
    name = f"nodes for {plan.name}"
    judged = [(node["metadata"]["name"], misfits(plan.spec, node)) for node in nodes]
    fit = [node for node, reasons in judged if not reasons]
    if fit:
        return Check(name, True, f"{len(fit)} of {len(nodes)}: {', '.join(fit[:3])}{' …' if len(fit) > 3 else ''}")
    assumed = [(pool["metadata"]["name"], misfits(plan.spec, pool)) for pool in pools]
    grown = [pool for pool, reasons in assumed if not reasons]
    if grown:
        return Check(name, True, f"none now; the assumed pool {grown[0]} fits")
    detail = f"none of {len(nodes)} fits{_nearest(judged)}"
    detail += "".join(f"; the assumed pool {pool} {'; '.join(reasons)}" for pool, reasons in assumed)
    room = [group for group in groups or [] if group.size < group.most]
    if room:
        listing = ", ".join(f"{group.name} ({group.size} of {group.most})" for group in room[:3])
        return Check(
            name, False, f"{detail}. An autoscaler may add some: {listing}", f"describe the pool with {_assume(plan)}", needed=False
        )
    return Check(name, False, f"{detail}. No autoscaler that could add one was found", _remedy(plan, judged))


def may_run(plan: PodPlan, nodes: Sequence[Manifest], pools: Sequence[Manifest], groups: Sequence[NodeGroup] | None) -> bool:
    """Whether some node takes a pod, or an autoscaler might add one that does."""
    check = node_check(plan, nodes, pools, groups)
    return check.ok or not check.needed


def _nearest(judged: Sequence[tuple[str, list[str]]]) -> str:
    if not judged:
        return ""
    node, reasons = min(judged, key=lambda item: len(item[1]))
    return f"; nearest is {node}, which {'; '.join(reasons)}"


def _remedy(plan: PodPlan, judged: Sequence[tuple[str, list[str]]]) -> str:
    lacking = any(f"has no {GPU}" in reasons and len(reasons) == 1 for _, reasons in judged)
    first = "install NVIDIA's device plugin on the GPU nodes" if lacking else "add such a node, or mend the pod settings in zenml.yaml"
    return f"{first}; a pool that grows from nothing is declared with {_assume(plan)}"


def _assume(plan: PodPlan) -> str:
    """The option that declares a pool which this pod would fit, to be copied."""
    spec = plan.spec
    labels = ", ".join(f"{key}: {value}" for key, value in (spec.get("nodeSelector") or {}).items())
    resources = spec["containers"][0].get("resources") or {}
    allocatable = ", ".join(
        f"{k}: {v}" for k, v in sorted({**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items())
    )
    return f"--assume-pool '{{labels: {{{labels}}}, allocatable: {{{allocatable}}}}}'"


def _limits(target: Target, facts: Facts) -> Iterator[Check]:
    ranges = facts.ranges
    if ranges is None:
        yield _unseen("limit ranges", "limit ranges")
    elif ranges:
        remedy = "change resources in zenml.yaml, or the LimitRange"
        yield from _each("limit ranges", target, lambda spec: out_of_range(with_defaults(spec, ranges), ranges), remedy)


def _quotas(target: Target, facts: Facts) -> Iterator[Check]:
    quotas, ranges = facts.quotas, facts.ranges or []
    if quotas is None:
        yield _unseen("quota", "quotas")
    elif quotas:
        remedy = "wait for other runs to end, ask for more quota, or change resources in zenml.yaml"
        yield from _each("quota", target, lambda spec: over_quota(with_defaults(spec, ranges), quotas), remedy)


def _each(name: str, target: Target, problems: Callable[[Manifest], Iterable[str]], remedy: str) -> Iterator[Check]:
    """A cross for each kind of pod that has problems, or one tick for all."""
    found = [(plan, list(problems(plan.spec))) for plan in alike(target.pods)]
    for plan, said in found:
        if said:
            yield Check(f"{name} for {plan.name}", False, "; ".join(said), remedy)
    if found and not any(said for _, said in found):
        yield Check(name, True, f"leaves room for a pod of each of the {len(found)} kinds" if len(found) > 1 else "leaves room for a pod")


def _unseen(name: str, what: str) -> Check:
    return Check(name, False, f"not looked at: {what} may not be listed", f"ask for the right to list {what}", needed=False)
