"""Checks over plain data: what a cluster reports about itself and about the pods that will run on it."""

import json
from collections.abc import Iterator, Sequence

from components.cluster.client import Manifest
from components.cluster.inventory import Inventory, NodeGroup
from components.cluster.nodes import misfits
from components.cluster.target import GPU, PodPlan, Target
from components.core.checks import Check

# Tokens and signed object-store requests are refused if the clocks differ by more than a few minutes.
SKEW_SECONDS = 60.0
ZENMLS_ACCOUNT = "zenml-service-account"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_ASK = "ask the cluster's administrator for a Role that allows it; infra/kubernetes/base/accounts.yaml has one"


def cluster_checks(target: Target, found: Inventory) -> list[Check]:
    """All checks that need no running pod, in the order in which one would fix them."""
    checks = [_namespace(target, found)]
    there = found.namespace is not False
    if there:
        checks += [*_rights(target, found), *_accounts(target, found)]
    checks += [*_priorities(target, found), *_nodes(target, found)]
    if there:
        checks += [*_admission(found), *check_volumes(target, found)]
    return checks


def clock(skew: float) -> Check:
    """Whether this machine's clock agrees with the server's; ``skew`` is in seconds, positive if the server is ahead."""
    ok = abs(skew) <= SKEW_SECONDS
    detail = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the cluster's" if abs(skew) >= 1 else "as the cluster's"
    return Check("clock", ok, detail, "" if ok else "synchronize this machine's clock by NTP: tokens expire by it", needed=False)


def _namespace(target: Target, found: Inventory) -> Check:
    if found.namespace is False:
        remedy = f"kubectl create namespace {target.namespace}, or apply infra/kubernetes, or name another with --namespace"
        return Check("namespace", False, f"{target.namespace} does not exist", remedy)
    detail = target.namespace if found.namespace else f"{target.namespace} (no permission to look it up)"
    return Check("namespace", True, detail)


def _rights(target: Target, found: Inventory) -> Iterator[Check]:
    yield _allowed("rights", found.denied, "Jobs, their pods and logs", _ASK)
    if found.denied_useful:
        yield Check("further rights", False, f"may not {', '.join(found.denied_useful)}", "no run needs them, but people may", needed=False)
    if found.denied_runner is not None and (found.accounts is None or target.runner in found.accounts):
        yield _allowed(
            f"rights of {target.runner}", found.denied_runner, "Jobs, their pods and logs", "bind it to a Role with these rights"
        )


def _allowed(name: str, denied: Sequence[str], what: str, remedy: str) -> Check:
    return Check(name, not denied, f"may not {', '.join(denied)}" if denied else what, remedy if denied else "")


def _accounts(target: Target, found: Inventory) -> Iterator[Check]:
    name = "service accounts"
    if found.accounts is None:
        yield unseen(name, "service accounts")
        return
    missing = [account for account in target.accounts if account not in found.accounts]
    if missing:
        remedy = f"kubectl -n {target.namespace} create serviceaccount {missing[0]}, or apply infra/kubernetes"
        yield Check(name, False, f"missing: {', '.join(missing)}", remedy)
    elif target.accounts:
        yield Check(name, True, ", ".join(target.accounts))
    if target.makes_account and ZENMLS_ACCOUNT not in found.accounts:
        can = not found.denied_accounts
        detail = f"the orchestrator names none; ZenML {'will create' if can else 'may not create'} {ZENMLS_ACCOUNT} with the role edit"
        yield Check(name, can, detail, "" if can else "set service_account_name of the orchestrator to one that may create Jobs")


def _priorities(target: Target, found: Inventory) -> Iterator[Check]:
    named = sorted({plan.spec["priorityClassName"] for plan in target.pods if plan.spec.get("priorityClassName")})
    if not named:
        return
    if found.priorities is None:
        yield unseen("priority classes", "priority classes")
        return
    missing = [name for name in named if name not in found.priorities and not name.startswith("system-")]
    detail = f"missing: {', '.join(missing)}" if missing else ", ".join(named)
    remedy = "apply infra/kubernetes, or name another priority class in zenml.yaml" if missing else ""
    yield Check("priority classes", not missing, detail, remedy)


def _nodes(target: Target, found: Inventory) -> Iterator[Check]:
    if found.nodes is None:
        yield unseen("nodes", "nodes")
        return
    for plan in alike(target.pods):
        yield node_check(plan, found.nodes, target.pools, found.groups)


def alike(pods: Sequence[PodPlan]) -> list[PodPlan]:
    """Merge the plans of pods that make the same demands on a node."""
    groups: dict[str, list[PodPlan]] = {}
    for plan in pods:
        spec = plan.spec
        places = [spec.get(key) for key in ("nodeSelector", "affinity", "tolerations")]
        sizes = [container.get("resources") for key in ("containers", "initContainers") for container in spec.get(key) or []]
        groups.setdefault(json.dumps([places, sizes], sort_keys=True), []).append(plan)
    return [PodPlan(tuple(step for plan in group for step in plan.steps), group[0].manifest) for group in groups.values()]


def node_check(plan: PodPlan, nodes: Sequence[Manifest], pools: Sequence[Manifest], groups: Sequence[NodeGroup] | None) -> Check:
    """Whether a pod fits an existing node, or one that an autoscaler would add."""
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
            name, False, f"{detail}. An autoscaler may add nodes: {listing}", f"describe the pool with {_assume(plan)}", needed=False
        )
    return Check(name, False, f"{detail}. No autoscaler that could add one was found", _remedy(plan, judged))


def may_run(plan: PodPlan, nodes: Sequence[Manifest], pools: Sequence[Manifest], groups: Sequence[NodeGroup] | None) -> bool:
    """Whether a pod fits some node, or an autoscaler might add one that it fits."""
    check = node_check(plan, nodes, pools, groups)
    return check.ok or not check.needed


def _nearest(judged: Sequence[tuple[str, list[str]]]) -> str:
    if not judged:
        return ""
    node, reasons = min(judged, key=lambda item: len(item[1]))
    return f"; the closest is {node}, which {'; '.join(reasons)}"


def _remedy(plan: PodPlan, judged: Sequence[tuple[str, list[str]]]) -> str:
    lacking = any(f"has no {GPU}" in reasons and len(reasons) == 1 for _, reasons in judged)
    first = "install NVIDIA's device plugin on the GPU nodes" if lacking else "add such a node, or fix the pod settings in zenml.yaml"
    return f"{first}; declare a pool that scales up from zero with {_assume(plan)}"


def _assume(plan: PodPlan) -> str:
    """The command-line option, ready to copy, that declares a pool which this pod would fit."""
    spec = plan.spec
    labels = ", ".join(f"{key}: {value}" for key, value in (spec.get("nodeSelector") or {}).items())
    resources = spec["containers"][0].get("resources") or {}
    allocatable = ", ".join(
        f"{k}: {v}" for k, v in sorted({**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items())
    )
    return f"--assume-pool '{{labels: {{{labels}}}, allocatable: {{{allocatable}}}}}'"


def _admission(found: Inventory) -> Iterator[Check]:
    """A failed check for each kind of pod that the API server refused in the dry run, or one passed check for all."""
    name = "admission"
    if found.trials is None:
        remedy = "ask for the right to create pods; docs/how-to/kubernetes.md says how"
        yield Check(name, False, "not tried: you may not create pods, which a dry run needs too", remedy, needed=False)
        return
    for trial in found.trials:
        if not trial.tried:
            yield Check(f"{name} of {trial.plan.name}", False, f"not tried: {trial.refusal}", "the probe tries one pod", needed=False)
        elif trial.refusal:
            full = "exceeded quota" in trial.refusal
            remedy = "wait for other runs to end, ask for more quota, or change resources" if full else "change the pod settings"
            yield Check(f"{name} of {trial.plan.name}", False, trial.refusal, f"{remedy} in zenml.yaml")
    if not any(trial.refusal for trial in found.trials):
        count = len(found.trials)
        yield Check(name, True, f"the API server would accept {'this pod' if count == 1 else f'each of the {count} kinds of pods'} now")


def unseen(name: str, what: str) -> Check:
    """An advisory check for something that may not be listed."""
    return Check(name, False, f"not checked: no permission to list {what}", f"ask for the right to list {what}", needed=False)


def check_volumes(target: Target, found: Inventory) -> Iterator[Check]:
    """A check for each claim and each storage class that a pod's volumes name."""
    volumes = [volume for plan in target.pods for volume in plan.spec.get("volumes") or []]
    claims = sorted({volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume})
    templates = [volume["ephemeral"]["volumeClaimTemplate"]["spec"] for volume in volumes if "ephemeral" in volume]
    if claims and found.claims is None:
        yield unseen("volumes", "persistentvolumeclaims")
    elif found.claims is not None:
        known = {claim["metadata"]["name"]: claim for claim in found.claims}
        for name in claims:
            yield claim_check(name, known.get(name), target.namespace, found.classes)
    for name in sorted({template.get("storageClassName") or "" for template in templates}):
        yield _class_check(name, found.classes)


def claim_check(name: str, claim: Manifest | None, namespace: str, classes: list[Manifest] | None) -> Check:
    """Whether a claim is bound, or will be as soon as a pod mounts it."""
    title = f"volume {name}"
    if claim is None:
        return Check(title, False, "there is no such claim", "apply infra/kubernetes, or create the PersistentVolumeClaim")
    phase = (claim.get("status") or {}).get("phase", "Pending")
    named = (claim.get("spec") or {}).get("storageClassName")
    if phase == "Bound":
        return Check(title, True, f"bound{f', storage class {named}' if named else ''}")
    if phase == "Lost":
        return Check(title, False, "its volume is lost", "restore the volume, or delete and recreate the claim")
    described = f"kubectl -n {namespace} describe pvc {name}"
    if not named:
        remedy = f"mark a storage class as default, name one in the claim, or create a volume for it; {described}"
        return Check(title, False, "waits for a volume, and names no storage class", remedy)
    if classes is None:
        return Check(title, False, f"waits for a volume of class {named} (no permission to look it up)", described, needed=False)
    known = next((one for one in classes if one["metadata"]["name"] == named), None)
    if known is None:
        return Check(title, False, f"its storage class {named} does not exist", f"recreate the claim with one of: {_names(classes)}")
    if known.get("volumeBindingMode") == "WaitForFirstConsumer":
        return Check(title, True, f"will be bound to the first pod's node, storage class {named}")
    return Check(title, False, f"waits for a volume of class {named}", f"find out why it is not provisioned: {described}")


def _class_check(name: str, classes: list[Manifest] | None) -> Check:
    title = f"storage class {name or '(default)'}"
    if classes is None:
        return unseen(title, "storage classes")
    if name:
        ok = any(one["metadata"]["name"] == name for one in classes)
    else:
        ok = any((one["metadata"].get("annotations") or {}).get(_DEFAULT) == "true" for one in classes)
    return Check(title, ok, "exists" if ok else "does not exist", "" if ok else f"name one of these in zenml.yaml: {_names(classes)}")


def _names(classes: list[Manifest]) -> str:
    return ", ".join(one["metadata"]["name"] for one in classes) or "(the cluster has none)"
