"""The manifests for Kubernetes: valid for old and new clusters, locked down, and one with ``zenml.yaml`` and the page.

What is locked down in a pod (user, root file system, privileges, limits) and dangling is for kube-linter, in the CI workflow.
"""

import json
import re
import shutil
from collections.abc import Sequence
from urllib.parse import urlsplit

import kubernetes_validate
import pytest

from components.core.paths import REPOSITORY
from tests.infra.kubernetes.manifests import FILES, OVERLAYS, Manifest, matches, name_of, plain, pods, read, resolved

PAGE = REPOSITORY / "docs" / "how-to" / "kubernetes.md"
by_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
# The oldest release with schemas whose CronJobs have time zones, and a new one.
VERSIONS = ("1.27", "1.34")


def _secrets() -> set[tuple[str, str, str]]:
    """The Secrets that the page has the user make: namespace, name, key."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"kubectl -n (\S+) create secret generic (\S+)(.*)", text)
    return {(namespace, name, key) for namespace, name, rest in found for key in re.findall(r"--from-literal=([\w-]+)=", rest)}


@by_overlay
def test_overlays_are_what_their_files_say(overlay: str) -> None:
    """As kubectl would send it: all files and no others, none of them twice, and nothing that gives rights beyond a namespace."""
    names = sorted(map(name_of, plain(overlay)))
    assert sorted(map(name_of, resolved(overlay))) == names and len(set(names)) == len(names)
    assert not [name for name in names if name.startswith(("ClusterRole", "Secret/"))]
    granted = {item for m in plain(overlay) for rule in m.get("rules", []) for items in rule.values() for item in items}
    assert not granted & {"*", "secrets", "roles", "rolebindings", "pods/exec", "serviceaccounts/token"}


def test_manifests_are_valid() -> None:
    overlays = [*map(plain, OVERLAYS), *(map(resolved, OVERLAYS) if shutil.which("kubectl") else [])]
    for manifest in {json.dumps(manifest): manifest for manifests in overlays for manifest in manifests}.values():
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_secrets_of_the_page_are_those_in_use() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (*FILES, REPOSITORY / "zenml.yaml"))
    assert {name for _, name, _ in _secrets()} == set(re.findall(r"(?:secretRef|secretKeyRef): \{name: ([\w-]+)", text))


def test_namespaces_are_restricted_and_closed() -> None:
    manifests = plain("local")
    spaces = {m["metadata"]["name"]: m["metadata"]["labels"] for m in manifests if m["kind"] == "Namespace"}
    assert len(spaces) == 2
    for name, labels in spaces.items():
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        deny = next(m for m in manifests if name_of(m) == f"NetworkPolicy/{name}/default-deny")
        assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@by_overlay
def test_every_pod_may_ask_for_names_and_every_step_reaches_the_hub(overlay: str) -> None:
    everybodys = [m for m in plain(overlay) if m["kind"] == "NetworkPolicy" and m["spec"]["podSelector"] == {}]
    rules_of = {space: [r for m in everybodys if m["metadata"]["namespace"] == space for r in m["spec"].get("egress", [])]
                for space in ("styleforge", "styleforge-runs")}  # fmt: skip
    for given in rules_of.values():
        (names,) = [rule for rule in given if {port["port"] for port in rule["ports"]} == {53}]
        assert {port["protocol"] for port in names["ports"]} == {"TCP", "UDP"}
        # NodeLocal DNSCache answers at an address of its own, in pods of its own.
        assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in names["to"]
        assert "node-local-dns" in names["to"][0]["podSelector"]["matchExpressions"][0]["values"]
    (hub,) = [rule for rule in rules_of["styleforge-runs"] if {port["port"] for port in rule["ports"]} == {443}]
    assert hub["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]
    assert not [rule for rule in rules_of["styleforge"] if {port["port"] for port in rule["ports"]} != {53}]


# Ports that others may connect to; by the policies of ``local`` whoever is not listed reaches nobody.
PORTS = {"mlflow": 5000, "zenml": 8080, "postgres": 5432, "s3": 9000}
SERVICES = {"mlflow", "zenml", "s3"}
REACHES = {"mlflow": {"postgres", "s3"}, "s3-buckets": {"s3"}, "retrain": SERVICES, "runner": SERVICES, "step": SERVICES}
Pod = tuple[str, Manifest]


def _is(peer: Manifest, pod: Pod, home: str) -> bool:
    """Whether a rule's peer is the pod (its namespace and labels); without a selector of namespaces the policy's own is meant."""
    spaces = peer.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": home}})
    there = matches(spaces, {"kubernetes.io/metadata.name": pod[0]})
    return "ipBlock" not in peer and there and matches(peer.get("podSelector", {}), pod[1])


def _allowed(policies: Sequence[Manifest], pod: Pod, other: Pod, port: int, way: tuple[str, str, str]) -> bool:
    """Whether no policy selects the pod, or a rule of one that does lists the other and the port (networking.k8s.io/v1)."""
    kind, rules, peers = way
    own = [m["spec"] for m in policies if m["metadata"]["namespace"] == pod[0] and kind in m["spec"]["policyTypes"]]
    own = [spec for spec in own if matches(spec["podSelector"], pod[1])]
    return not own or any(
        port in {item["port"] for item in rule["ports"]} and any(_is(peer, other, pod[0]) for peer in rule[peers])
        for spec in own
        for rule in spec.get(rules, [])
    )


def test_each_workload_reaches_what_it_needs_and_nothing_else() -> None:
    manifests = plain("local")
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    at: dict[str, Pod] = {m["metadata"]["name"]: (m["metadata"]["namespace"], t["metadata"]["labels"]) for _, m, t in pods(manifests)}
    at |= {name: ("styleforge-runs", {"app.kubernetes.io/component": name}) for name in ("runner", "step")} | {"stranger": ("other", {})}
    for name, pod in at.items():
        found = {
            (other, port)
            for other, target in at.items()
            for port in (*PORTS.values(), 9999)
            if other != name
            and _allowed(policies, pod, target, port, ("Egress", "egress", "to"))
            and _allowed(policies, target, pod, port, ("Ingress", "ingress", "from"))
        }
        assert found == {(other, PORTS[other]) for other in REACHES.get(name, set())}, name
    assert set(REACHES) <= set(at) and set(PORTS) <= set(at)


def test_only_the_runner_has_a_token_and_it_has_only_what_it_needs() -> None:
    manifests = plain("local")
    tokens = [m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount" and m["automountServiceAccountToken"]]
    assert tokens == ["styleforge-runner"]
    bound = {s["name"] for m in manifests if m["kind"] == "RoleBinding" for s in m["subjects"]}
    assert bound == {"styleforge-runner"}
    with_token = [name for name, _, template in pods(manifests) if template["spec"]["automountServiceAccountToken"]]
    assert with_token == ["CronJob/styleforge-runs/retrain"]


def test_each_pool_has_a_quota_and_each_namespace_a_limit() -> None:
    manifests = plain("local")
    scoped = {
        value
        for m in manifests
        if m["kind"] == "ResourceQuota"
        for expression in m["spec"].get("scopeSelector", {}).get("matchExpressions", [])
        for value in expression["values"]
    }
    assert scoped == {"styleforge-cpu", "styleforge-gpu"}
    assert {m["metadata"]["namespace"] for m in manifests if m["kind"] == "LimitRange"} == {"styleforge", "styleforge-runs"}


def test_versions_are_those_of_the_project() -> None:
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    zenml = re.search(r"^zenml==(.*)$", (REPOSITORY / "constraints.txt").read_text(), re.M)
    assert version and zenml
    used = {c["image"] for _, _, template in pods(plain("local")) for c in template["spec"]["containers"]}
    assert {f"styleforge:{version[1]}-cpu", f"zenmldocker/zenml-server:{zenml[1]}"} <= used


def test_the_retraining_is_a_command_that_exists() -> None:
    from docs import generate

    job = next(m for m in plain("local") if m["kind"] == "CronJob")
    spec = job["spec"]
    assert spec["concurrencyPolicy"] == "Forbid" and spec["startingDeadlineSeconds"] and spec["suspend"] is True
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 86400, "would reach into the next day's"
    container = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    values = next(m for m in plain("local") if name_of(m) == "ConfigMap/styleforge-runs/runs")["data"]
    word, *rest = [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], text) for text in container["args"]]
    assert "$" not in "".join(rest)
    command = f"styleforge {word}"
    dict(generate.walk_commands())[command].make_context(command, list(rest))
    assert (REPOSITORY / values["RETRAIN_CONFIG"].removeprefix("/opt/styleforge/")).is_file()


def test_mlflow_takes_requests_under_the_name_that_runs_use() -> None:
    manifests = plain("local")
    allowed = next(m for m in manifests if name_of(m) == "ConfigMap/styleforge/mlflow")["data"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    values = next(m for m in manifests if name_of(m) == "ConfigMap/styleforge-runs/runs")["data"]
    assert urlsplit(values["MLFLOW_TRACKING_URI"]).netloc in allowed
    services = {
        f"{m['metadata']['name']}.{m['metadata']['namespace']}:{m['spec']['ports'][0]['port']}" for m in manifests if m["kind"] == "Service"
    }
    patched = [m["data"] for path in FILES if path.name == "settings.yaml" and path.parent.name == "local" for m in read(path)]
    for data in [values, *patched]:
        for value in data.values():
            if value.startswith("http://"):
                assert urlsplit(value).netloc in services, value
