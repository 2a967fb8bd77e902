"""The network policies of the overlay ``local`` at work: who can open a connection to whom, before and after they are applied.

A pod stands for each workload, with that workload's labels, and listens on everybody's ports. Skipped where the network enforces
nothing; ``POLICIES=1 .ci/cluster tests/cluster/test_network_policies.py`` brings something that does.
"""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from components.core.paths import REPOSITORY
from tests.cluster.environment import client, host_address, wait_for_account
from tests.infra.kubernetes.manifests import Manifest, pods, resolved

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SERVERS, RUNS, ELSEWHERE = "styleforge", "styleforge-runs", "sf-test-elsewhere"
# Nothing listens on the last one but in this test.
PORTS = {"mlflow": 5000, "zenml": 8080, "postgres": 5432, "s3": 9000, "": 9999}
API, HTTPS, NAMES = "kubernetes:443", "outside:443", "names"
SERVICES = {"mlflow:5000", "zenml:8080", "s3:9000", HTTPS}
REACHES: dict[str, set[str]] = {
    "mlflow": {"postgres:5432", "s3:9000"},
    "zenml": set(),
    "postgres": set(),
    "s3": set(),
    "s3-buckets": {"s3:9000"},
    "retrain": SERVICES | {API},
    "runner": SERVICES | {API},
    "step": SERVICES,
}
OTHERS = {API, HTTPS, NAMES}
# In a namespace that has nothing to do with us: one without any policy, and one that may not do anything.
STRANGER, SHUT = "stranger", "shut"
LISTEN = """
import asyncio
async def main():
    servers = [await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", port) for port in {ports}]
    await asyncio.gather(*(server.serve_forever() for server in servers))
asyncio.run(main())
"""
# A connection that nobody answers is tried again after a second by the system; three seconds are two tries.
CALL = """
import concurrent.futures, os, socket
places = {places}
places["kubernetes:443"] = (os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]))
def call(name):
    try:
        socket.create_connection(places[name], 3).close()
        return [name]
    except OSError:
        return []
def ask():
    try:
        return ["names"] if socket.getaddrinfo("kubernetes.default", 443) else []
    except OSError:
        return []
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print("\\n".join([*sum(pool.map(call, places), []), *ask()]))
"""


def _labels() -> dict[str, tuple[str, Manifest]]:
    """Of each workload of the manifests and of ``zenml.yaml``: its namespace and its pods' labels."""
    found = {
        manifest["metadata"]["name"]: (manifest["metadata"]["namespace"], template["metadata"]["labels"])
        for _, manifest, template in pods(resolved("local"))
    }
    text = yaml.safe_load((REPOSITORY / "zenml.yaml").read_text(encoding="utf-8"))
    for labels in _named(text, "labels"):
        component = labels["app.kubernetes.io/component"]
        found[component] = (RUNS, labels)
    return found


def _named(value: Any, key: str) -> Iterator[Any]:
    """All values of a key, however deep."""
    if isinstance(value, dict):
        yield from ([value[key]] if key in value else [])
        for inner in value.values():
            yield from _named(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key)


def _pod(name: str, labels: Manifest, image: str) -> Manifest:
    nobody = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "main", "image": image, "securityContext": locked, "command": ["python", "-c", LISTEN.format(ports=sorted(PORTS.values()))],
        "readinessProbe": {"tcpSocket": {"port": PORTS[""]}, "periodSeconds": 1},
        "resources": {what: {"cpu": "50m", "memory": "128Mi"} for what in ("requests", "limits")},
    }  # fmt: skip
    spec = {"securityContext": nobody, "automountServiceAccountToken": False, "containers": [container], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": f"as-{name}", "labels": labels}, "spec": spec}


def test_every_workload_is_in_the_table() -> None:
    assert set(_labels()) == set(REACHES)


class Workloads:
    """The pods, by the names of their workloads."""

    def __init__(self, core: Any, image: str, outside: str) -> None:
        self.core, self.outside = core, outside
        self.at = _labels() | {STRANGER: (ELSEWHERE, {"name": STRANGER}), SHUT: (ELSEWHERE, {"name": SHUT})}
        for name, (namespace, labels) in self.at.items():
            core.create_namespaced_pod(namespace, _pod(name, labels, image))
        self.addresses = {name: self._ready(name) for name in self.at}

    def _ready(self, name: str) -> str:
        namespace, end = self.at[name][0], time.monotonic() + 240
        while True:
            pod = self.core.read_namespaced_pod(f"as-{name}", namespace)
            if any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions or []):
                return str(pod.status.pod_ip)
            assert time.monotonic() < end, f"{name} is not ready: {pod.status}"
            time.sleep(0.5)

    def reached(self, name: str) -> set[str]:
        """What a pod reaches of all others' ports, the API server, and answers to questions about names."""
        from kubernetes.stream import stream

        places = {
            f"{other}:{port}": (address, port) for other, address in self.addresses.items() if other != name for port in PORTS.values()
        } | {HTTPS: (self.outside, 443)}
        command = ["python", "-c", CALL.format(places=places)]
        call = self.core.connect_get_namespaced_pod_exec
        return set(stream(call, f"as-{name}", self.at[name][0], command=command, stdout=True, stderr=True).split("\n")) - {""}


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """An address outside of the cluster where somebody listens on the port of HTTPS: this machine's."""
    host = host_address()
    try:
        listener = socket.create_server((host, 443), backlog=128)
    except OSError as error:
        pytest.skip(f"nobody can listen on {host}:443: {error.strerror}")
    with listener:
        yield host


@pytest.fixture(scope="module")
def workloads(image: str, outside: str) -> Iterator[Workloads]:
    """The pods with the policies in force, after a look at each without them."""
    kubernetes = client()
    core, network = kubernetes.client.CoreV1Api(), kubernetes.client.NetworkingV1Api()
    if {item.metadata.name for item in core.list_namespace().items} & {SERVERS, RUNS}:
        pytest.skip("StyleForge is installed here already")
    spaces = [item for item in resolved("local") if item["kind"] == "Namespace"] + [{"metadata": {"name": ELSEWHERE}}]
    for space in spaces:
        core.create_namespace(space)
    try:
        for space in spaces:
            wait_for_account(space["metadata"]["name"])
        made = Workloads(core, image, outside)
        for name in made.at:
            everything = {f"{other}:{port}" for other in made.at if other != name for port in PORTS.values()} | OTHERS
            assert made.reached(name) == everything, "without policies everybody reaches everybody"
        shut = {"podSelector": {"matchLabels": {"name": SHUT}}, "policyTypes": ["Ingress", "Egress"]}
        network.create_namespaced_network_policy(ELSEWHERE, {"metadata": {"name": "shut"}, "spec": shut})
        for policy in resolved("local"):
            if policy["kind"] == "NetworkPolicy":
                network.create_namespaced_network_policy(policy["metadata"]["namespace"], policy)
        _wait_for_policies(made)
        yield made
    finally:
        for space in spaces:
            core.delete_namespace(space["metadata"]["name"])


def _wait_for_policies(workloads: Workloads) -> None:
    """Return when a pod that may do nothing reaches no other any more."""
    for _ in range(5):
        if not any(place.startswith(STRANGER) for place in workloads.reached(SHUT)):
            return
        time.sleep(2)
    pytest.skip(
        "this cluster's network enforces no policies: a pod that may not do anything still reaches others; "
        "POLICIES=1 .ci/cluster tests/cluster/test_network_policies.py brings what enforces them"
    )


@pytest.mark.parametrize("name", [*REACHES])
def test_a_pod_reaches_what_it_needs_and_nothing_else(workloads: Workloads, name: str) -> None:
    # Some networks always let a pod speak to its own node, which may have the API server and this test.
    own_node = workloads.reached(SHUT) & {API, HTTPS}
    assert workloads.reached(name) - own_node == (REACHES[name] | {NAMES}) - own_node


def test_whoever_has_nothing_to_do_with_us_reaches_nobody_of_ours(workloads: Workloads) -> None:
    """It may reach its own neighbour as little, since that one's policy lets nobody in."""
    assert workloads.reached(STRANGER) == OTHERS
