"""The manifests for Kubernetes: valid for old and new clusters, locked down, and whole."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.infra.kubernetes import rules
from tests.infra.kubernetes.manifests import FILES, OVERLAYS, Manifest, name_of, plain, pods, read, resolved, whole

PAGE = REPOSITORY / "docs" / "how-to" / "kubernetes.md"
by_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
by_file = pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
# The oldest release with schemas whose CronJobs have time zones, and a new one.
VERSIONS = ("1.27", "1.34")


def _secrets() -> set[tuple[str, str, str]]:
    """The Secrets that the page has the user make: namespace, name, key."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    found = set()
    for namespace, name, rest in re.findall(r"kubectl -n (\S+) create secret generic (\S+)(.*)", text):
        found |= {(namespace, name, key) for key in re.findall(r"--from-literal=([\w-]+)=", rest)}
    return found


Rule = Callable[[Sequence[Manifest]], Iterator[str]]
RULES: list[Rule] = [
    rules.security, rules.probes, rules.images, rules.selectors, rules.rights, rules.secret_values,
    lambda manifests: rules.references(manifests, _secrets()),
]  # fmt: skip
NAMES = ["security", "probes", "images", "selectors", "rights", "secret_values", "references"]
by_rule = pytest.mark.parametrize("rule", RULES, ids=NAMES)


# Valid


@by_file
@pytest.mark.parametrize("version", VERSIONS)
def test_files_are_valid(path: Path, version: str) -> None:
    for manifest in whole(path):
        kubernetes_validate.validate(manifest, version, strict=True)


@by_overlay
def test_overlays_are_valid(overlay: str) -> None:
    manifests = resolved(overlay)
    assert len(manifests) == len({name_of(manifest) for manifest in manifests})
    for manifest in manifests:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validation_can_fail() -> None:
    for change in ({"spec": {"replicaz": 1}}, {"spec": {"selector": {}, "template": {}, "replicas": "one"}}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({"apiVersion": "apps/v1", "kind": "Deployment", **change}, VERSIONS[0], strict=True)


def test_every_file_belongs_to_a_kustomization() -> None:
    for path in FILES:
        kustomization = read(path.parent / "kustomization.yaml")[0]
        named = kustomization["resources"] + [patch["path"] for patch in kustomization.get("patches", [])]
        assert path.name in named, path


# Locked down, and whole


@by_overlay
@by_rule
def test_plain_files_keep_to_the_rules(overlay: str, rule: Rule) -> None:
    assert list(rule(plain(overlay))) == []


@by_overlay
@by_rule
def test_overlays_keep_to_the_rules(overlay: str, rule: Rule) -> None:
    assert list(rule(resolved(overlay))) == []


def _break(path: str, value: Any) -> Callable[[list[Manifest]], None]:
    """Set one place in a manifest, given as Kind/namespace/name:a.b.0.c; None removes it."""
    target, _, place = path.partition(":")

    def change(manifests: list[Manifest]) -> None:
        node: Any = next(manifest for manifest in manifests if name_of(manifest) == target)
        *way, last = [int(part) if part.isdigit() else part for part in place.split(">")]
        for part in way:
            node = node[part]
        if value is None:
            del node[last]
        else:
            node[last] = value

    return change


MLFLOW = "Deployment/styleforge/mlflow:spec>template>spec"
CONTAINER = f"{MLFLOW}>containers>0"


@pytest.mark.parametrize(
    ("rule", "path", "value", "fault"),
    [
        ("security", f"{MLFLOW}>securityContext>runAsNonRoot", False, "may run as root"),
        ("security", f"{MLFLOW}>securityContext>seccompProfile", None, "seccomp"),
        ("security", f"{MLFLOW}>automountServiceAccountToken", None, "token"),
        ("security", f"{MLFLOW}>hostNetwork", True, "node"),
        ("security", f"{CONTAINER}>securityContext>readOnlyRootFilesystem", None, "root"),
        ("security", f"{CONTAINER}>securityContext>allowPrivilegeEscalation", True, "privileges"),
        ("security", f"{CONTAINER}>securityContext>capabilities", {"drop": ["NET_RAW"]}, "capabilities"),
        ("security", f"{CONTAINER}>resources>limits>memory", None, "limits"),
        ("probes", f"{CONTAINER}>livenessProbe", None, "livenessProbe"),
        ("images", f"{CONTAINER}>image", "styleforge", "not pinned"),
        ("images", f"{CONTAINER}>image", "styleforge:latest", "not pinned"),
        ("images", f"{CONTAINER}>image", "registry.example.com:5000/styleforge", "not pinned"),
        ("selectors", "Service/styleforge/mlflow:spec>selector", {"app.kubernetes.io/name": "mlfow"}, "selects no pod"),
        ("selectors", "Service/styleforge/mlflow:spec>ports>0>targetPort", "web", "no port"),
        ("selectors", "PodDisruptionBudget/styleforge/zenml:spec>selector>matchLabels", {"a": "b"}, "selects no pod"),
        ("selectors", "NetworkPolicy/styleforge/postgres:spec>ingress>0>from>0>podSelector>matchLabels", {"a": "b"}, "from nobody"),
        ("selectors", "NetworkPolicy/styleforge-runs/services:spec>egress>0>ports>0>port", 5001, "nobody's"),
        ("selectors", "NetworkPolicy/styleforge-runs/kubernetes-api:spec>podSelector>matchLabels", {"a": "b"}, "selects no pod"),
        ("rights", "Role/styleforge-runs/styleforge-runner:rules>0>verbs", ["*"], "wildcard"),
        ("rights", "Role/styleforge-runs/styleforge-runner:rules>1>resources", ["secrets"], "rights on"),
        ("secret_values", "ConfigMap/styleforge-runs/runs:data>ZENML_STORE_API_KEY", "x", "API_KEY"),
        ("references", f"{MLFLOW}>serviceAccountName", "nobody", "no ServiceAccount"),
        ("references", f"{CONTAINER}>envFrom>0>configMapRef>name", "nothing", "no ConfigMap"),
        ("references", f"{CONTAINER}>env>0>valueFrom>secretKeyRef>key", "nothing", "nobody makes the key"),
        ("references", "Deployment/styleforge/zenml:spec>template>spec>volumes>0>persistentVolumeClaim>claimName", "x", "no Persistent"),
    ],
)
def test_the_rules_find_what_they_are_for(rule: str, path: str, value: Any, fault: str) -> None:
    manifests = copy.deepcopy(plain("local"))
    _break(path, value)(manifests)
    assert any(fault in found for found in RULES[NAMES.index(rule)](manifests))


# What holds this set together


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
    from urllib.parse import urlsplit

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


@by_overlay
def test_overlays_change_only_what_is_there(overlay: str) -> None:
    """A patch of something that the base does not have would be an error; a namespace that is missing would be one in the cluster."""
    spaces = {m["metadata"]["name"] for m in plain(overlay) if m["kind"] == "Namespace"}
    names = {name_of(m) for m in plain(overlay)}
    for manifest in plain(overlay):
        assert manifest["kind"] in ("Namespace", "PriorityClass") or manifest["metadata"]["namespace"] in spaces, name_of(manifest)
    for path in FILES:
        if path.parent.name == overlay and not whole(path):
            assert {name_of(m) for m in read(path)} <= names
    assert (
        yaml.safe_load((REPOSITORY / "infra/kubernetes/overlays" / overlay / "kustomization.yaml").read_text())["resources"][0]
        == "../../base"
    )
