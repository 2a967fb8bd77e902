"""Whether a cluster is fit for what a stack will run on it: questions in order, each answered by a :class:`Check` with a remedy."""

import time
from dataclasses import dataclass, field

from components.cluster.admission import clock, cluster_checks, may_run
from components.cluster.client import Cluster, ClusterUnreachable, connect
from components.cluster.inventory import Inventory, gather
from components.cluster.probe import choose, outcome_checks, probe
from components.cluster.target import PodPlan, Target
from components.core.checks import Check
from components.core.errors import StyleForgeError

PROBE_SECONDS = 40.0


@dataclass
class Report:
    """The checks made, and whether the API server was unreachable, which ends them."""

    checks: list[Check] = field(default_factory=list)
    unreachable: bool = False

    @property
    def healthy(self) -> bool:
        """Whether no needed check failed."""
        return all(check.ok for check in self.checks if check.needed)


def examine_cluster(target: Target, *, seconds: float = PROBE_SECONDS) -> Report:
    """Check everything from the kubeconfig to the services as a pod sees them.

    The probe, including the download of its image, gets ``seconds``. KeyboardInterrupt passes through and leaves no pod behind.
    """
    report = Report()
    try:
        cluster = connect(target.access)
        report.checks.append(Check("kubeconfig", True, f"context {cluster.context}"))
    except StyleForgeError as error:
        report.checks.append(_cross("kubeconfig", error))
        return report
    try:
        _examine(cluster, target, seconds, report)
    except ClusterUnreachable as error:
        report.checks.append(_cross("API server", error))
        report.unreachable = True
    except StyleForgeError as error:
        report.checks.append(_cross("API server", error))
    return report


def _cross(name: str, error: StyleForgeError) -> Check:
    # The check's name need not be repeated.
    detail = f"{error.where.removeprefix(name).strip()}: {error.problem}" + (f"; expected {error.expected}" if error.expected else "")
    return Check(name, False, detail, error.remedy)


def _examine(cluster: Cluster, target: Target, seconds: float, report: Report) -> None:
    started = time.monotonic()
    version = cluster.get("/version")
    took = time.monotonic() - started
    detail = f"{cluster.server}, Kubernetes {version.get('gitVersion', 'of an unknown version')}, {took:.1f} s"
    report.checks += [Check("API server", True, detail), clock(cluster.skew)]
    found = gather(cluster, target)
    report.checks += cluster_checks(target, found)
    if found.namespace is False:
        return
    plan = choose(target)
    if plan is None:
        report.checks.append(_left_out("no image is named", "name it in zenml.yaml (settings.docker.parent_image), or with --image"))
        return
    if reason := _hopeless(plan, target, found):
        report.checks.append(_left_out(*reason))
        return
    report.checks += outcome_checks(target, probe(cluster, target, plan, seconds))
    others = sorted({other.image for other in target.pods} - {plan.image})
    if others:
        report.checks.append(Check("other images", True, f"not tried: {', '.join(others)}", needed=False))


def _hopeless(plan: PodPlan, target: Target, found: Inventory) -> tuple[str, str] | None:
    """Why a probe could not succeed, and what to do about it; None if it could."""
    if "create jobs" in found.denied:
        return "no permission to create Jobs", "see the row for rights"
    if found.nodes is not None and not may_run(plan, found.nodes, target.pools, found.groups):
        return "no node fits it", "see the rows for nodes"
    return None


def _left_out(reason: str, remedy: str) -> Check:
    return Check("probe", False, f"skipped: {reason}", remedy, needed=False)
