"""What every manifest has to keep to. Each rule gives the faults that it finds, as text, so that tests can show that it finds some."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.infra.kubernetes.manifests import Manifest, matches, name_of, pods

# Labels of what is not ours, but is in every cluster.
OTHERS = {"kube-system": [{"k8s-app": "kube-dns"}, {"k8s-app": "node-local-dns"}]}


def security(manifests: Sequence[Manifest]) -> Iterator[str]:
    for name, _, template in pods(manifests):
        spec = template["spec"]
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name}: may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: no seccomp profile"
        if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")) or any("hostPath" in v for v in spec.get("volumes", [])):
            yield f"{name}: reaches into the node"
        if "automountServiceAccountToken" not in spec or not spec.get("serviceAccountName"):
            yield f"{name}: leaves its token to chance"
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{name}: may gain privileges"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name}: keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{name}: can write to its root"
            if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
                yield f"{name}: a container of root's"
            for what in ("requests", "limits"):
                if set(container.get("resources", {}).get(what, {})) < {"cpu", "memory"}:
                    yield f"{name}: no {what} for cpu and memory"


def probes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Jobs end by themselves; what serves must be asked whether it lives."""
    for name, manifest, template in pods(manifests):
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            for container in template["spec"]["containers"]:
                for probe in {"livenessProbe", "readinessProbe"} - set(container):
                    yield f"{name}: no {probe}"


def images(manifests: Sequence[Manifest]) -> Iterator[str]:
    for name, _, template in pods(manifests):
        for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
            tag = re.fullmatch(r"[^:@]+(?::\d+/[^:@]+)?:([\w.-]+)", container["image"])
            # A tag such as "17" moves on; at least two numbers are asked for.
            if not tag or not re.search(r"\d+[.-]\d+", tag[1]):
                yield f"{name}: {container['image']} is not pinned"


def selectors(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Every Service, budget and policy must take a pod of its namespace; every port it names must be one of that pod's."""
    for manifest in manifests:
        kind, namespace = manifest["kind"], manifest["metadata"].get("namespace", "")
        if kind == "Service":
            found = _pods_in(manifests, namespace, {"matchLabels": manifest["spec"]["selector"]})
            if not found:
                yield f"{name_of(manifest)}: selects no pod"
            named = {port["name"] for template in found for c in template["spec"]["containers"] for port in c.get("ports", [])}
            yield from (
                f"{name_of(manifest)}: no port {p['targetPort']}" for p in manifest["spec"]["ports"] if p["targetPort"] not in named
            )
        elif kind == "PodDisruptionBudget" and not _pods_in(manifests, namespace, manifest["spec"]["selector"]):
            yield f"{name_of(manifest)}: selects no pod"
        elif kind == "NetworkPolicy":
            yield from _policy(manifests, manifest)


def _policy(manifests: Sequence[Manifest], policy: Manifest) -> Iterator[str]:
    name, namespace, spec = name_of(policy), policy["metadata"]["namespace"], policy["spec"]
    own = _pods_in(manifests, namespace, spec["podSelector"])
    if not own:
        yield f"{name}: selects no pod"
    for rule in spec.get("ingress", []):
        yield from (f"{name}: from nobody: {peer}" for peer in rule["from"] if not _peers(manifests, namespace, peer))
        yield from (f"{name}: port {p['port']} is nobody's" for p in rule["ports"] if p["port"] not in _ports(own))
    for rule in spec.get("egress", []):
        for peer in rule["to"]:
            if "ipBlock" in peer:
                continue
            found = _peers(manifests, namespace, peer)
            if not found:
                yield f"{name}: to nobody: {peer}"
            reached = _ports(found)
            yield from (f"{name}: port {p['port']} is nobody's" for p in rule["ports"] if reached and p["port"] not in reached)


def _ports(templates: Sequence[Manifest]) -> set[int]:
    return {port["containerPort"] for t in templates if "spec" in t for c in t["spec"]["containers"] for port in c.get("ports", [])}


def _peers(manifests: Sequence[Manifest], namespace: str, peer: Manifest) -> list[Manifest]:
    names = [namespace]
    if "namespaceSelector" in peer:
        spaces = {m["metadata"]["name"]: m["metadata"].get("labels", {}) for m in manifests if m["kind"] == "Namespace"}
        known = {**spaces, **{name: {} for name in OTHERS}}
        names = [
            name for name, labels in known.items() if matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": name, **labels})
        ]
    return [pod for name in names for pod in _pods_in(manifests, name, peer.get("podSelector", {}))]


def _pods_in(manifests: Sequence[Manifest], namespace: str, selector: Manifest) -> list[Manifest]:
    """Pod templates of a namespace that a selector takes."""
    if namespace in OTHERS:
        return [{"metadata": {"labels": labels}} for labels in OTHERS[namespace] if matches(selector, labels)]
    found = [(m["metadata"].get("namespace"), template) for _, m, template in pods(manifests)]
    return [template for space, template in found if space == namespace and matches(selector, template["metadata"].get("labels", {}))]


def references(manifests: Sequence[Manifest], secrets: set[tuple[str, str, str]]) -> Iterator[str]:
    """What a pod refers to is there, or is a Secret's key that the user makes: ``secrets`` has (namespace, Secret, key)."""
    there = {(m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"]) for m in manifests}
    for name, manifest, template in pods(manifests):
        namespace, spec = manifest["metadata"]["namespace"], template["spec"]
        claimed = {claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        wanted = [("ServiceAccount", namespace, spec["serviceAccountName"]), ("PriorityClass", "", spec["priorityClassName"])]
        wanted += [
            ("PersistentVolumeClaim", namespace, v["persistentVolumeClaim"]["claimName"])
            for v in volumes.values()
            if "persistentVolumeClaim" in v
        ]
        for container in spec["containers"]:
            yield from (f"{name}: no volume {m['name']}" for m in container["volumeMounts"] if m["name"] not in volumes.keys() | claimed)
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    wanted.append(("ConfigMap", namespace, source["configMapRef"]["name"]))
                elif not any(made[:2] == (namespace, source["secretRef"]["name"]) for made in secrets):
                    yield f"{name}: nobody makes the Secret {source['secretRef']['name']}"
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference and (namespace, reference["name"], reference["key"]) not in secrets:
                    yield f"{name}: nobody makes the key {reference['key']} of the Secret {reference['name']}"
        yield from (f"{name}: no {' '.join(want)}" for want in wanted if want not in there)


def rights(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{name_of(manifest)}: rights on the whole cluster"
        for rule in manifest.get("rules", []) if manifest["kind"] == "Role" else []:
            if any("*" in value for key in ("apiGroups", "resources", "verbs") for value in rule[key]):
                yield f"{name_of(manifest)}: a wildcard"
            if {"secrets", "roles", "rolebindings", "pods/exec", "serviceaccounts/token"} & set(rule["resources"]):
                yield f"{name_of(manifest)}: rights on {rule['resources']}"


def secret_values(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Secrets are the user's; and no variable with such a name has its value in a file."""
    secretive = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|ACCESS_KEY|ENCRYPTION)")
    for manifest in manifests:
        if manifest["kind"] == "Secret":
            yield f"{name_of(manifest)}: a Secret in a file"
        if manifest["kind"] == "ConfigMap":
            yield from (f"{name_of(manifest)}: {key}" for key in manifest["data"] if secretive.search(key))
    for name, _, template in pods(manifests):
        variables: list[dict[str, Any]] = [v for c in template["spec"]["containers"] for v in c.get("env", [])]
        yield from (f"{name}: the value of {v['name']}" for v in variables if "value" in v and secretive.search(v["name"]))
