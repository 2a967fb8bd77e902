"""Network policies put into iptables, for a one-node cluster whose own network stores them and does nothing.

It stands in for a network plugin, in tests only: ``python -m tests.cluster.enforcer`` as root on the node, with KUBECONFIG, until it is
stopped. Of the API (networking.k8s.io/v1) it knows what policies here use: selectors, address blocks with exceptions, ports by number.
One thing it does more strictly than the API asks: what a pod says to its own node is judged too, but for questions about names.
"""

import ipaddress
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence

from components.cluster.client import Access, Cluster, connect
from tests.infra.kubernetes.manifests import Manifest, matches

TOP = "SF-POLICIES"
HOOKS = ("FORWARD", "INPUT")
EVERYBODY = "0.0.0.0/0"
SECONDS = 0.3
# The label that Kubernetes gives to every namespace since 1.21.
NAME = "kubernetes.io/metadata.name"


def chains(namespaces: Sequence[Manifest], pods: Sequence[Manifest], policies: Sequence[Manifest]) -> dict[str, list[str]]:
    """Of each chain its rules, as iptables reads them. Who comes to the end of a pod's chain is dropped."""
    spaces = {item["metadata"]["name"]: {NAME: item["metadata"]["name"], **item["metadata"].get("labels", {})} for item in namespaces}
    living = [pod for pod in pods if _address(pod)]
    found: dict[str, list[str]] = {TOP: ["-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]}
    found[TOP] += [f"-m addrtype --dst-type LOCAL -p {protocol} --dport 53 -j RETURN" for protocol in ("udp", "tcp")]
    for direction, side, peer_side, key in (("Egress", "-s", "-d", "to"), ("Ingress", "-d", "-s", "from")):
        for number, pod in enumerate(living):
            own = [policy for policy in policies if direction in policy["spec"]["policyTypes"] and _selects(policy, pod)]
            if not own:
                continue
            chain = f"SF-{direction}-{number}"
            found[TOP].append(f"{side} {_address(pod)} -j {chain}")
            allowed = [
                f"{peer_side} {block} {port}-j RETURN"
                for policy in own
                for rule in policy["spec"].get(direction.lower(), [])
                for block in _blocks(rule.get(key), policy, spaces, living)
                for port in _ports(rule)
            ]
            found[chain] = [*dict.fromkeys(allowed), "-j DROP"]
    return found


def _address(pod: Manifest) -> str | None:
    """A pod's own address; None for one that is over, has none yet, or has the node's."""
    over = pod["status"].get("phase") in ("Succeeded", "Failed")
    return None if over or pod["spec"].get("hostNetwork") else pod["status"].get("podIP")


def _selects(policy: Manifest, pod: Manifest) -> bool:
    same = policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return same and matches(policy["spec"]["podSelector"], pod["metadata"].get("labels", {}))


def _blocks(peers: Sequence[Manifest] | None, policy: Manifest, spaces: Manifest, pods: Sequence[Manifest]) -> Iterator[str]:
    """Addresses of the peers of a rule; one that names no peers is about everybody."""
    if not peers:
        yield EVERYBODY
    for peer in peers or []:
        if "ipBlock" in peer:
            yield from _without(peer["ipBlock"]["cidr"], peer["ipBlock"].get("except", []))
            continue
        for pod in pods:
            space = pod["metadata"]["namespace"]
            # Without a selector of namespaces the policy's own is meant.
            there = (
                matches(peer["namespaceSelector"], spaces[space])
                if "namespaceSelector" in peer
                else space == policy["metadata"]["namespace"]
            )
            if there and matches(peer.get("podSelector", {}), pod["metadata"].get("labels", {})):
                yield str(_address(pod))


def _without(cidr: str, exceptions: Sequence[str]) -> Iterator[str]:
    left = [ipaddress.IPv4Network(cidr)]
    for exception in map(ipaddress.IPv4Network, exceptions):
        left = [part for block in left for part in (block.address_exclude(exception) if exception.subnet_of(block) else [block])]
    yield from map(str, left)


def _ports(rule: Manifest) -> Iterator[str]:
    if not rule.get("ports"):
        yield ""
    for port in rule.get("ports", []):
        assert isinstance(port["port"], int), f"a port by name is not known here: {port}"
        yield f"-p {port.get('protocol', 'TCP').lower()} --dport {port['port']} "


class Enforcer:
    """Keeps the node's rules as the cluster's objects say."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._now: dict[str, list[str]] = {}

    def step(self) -> None:
        """Look once, and change the rules where they differ: all at a time, so that none is ever half there."""
        get = self.cluster.items
        policies = get("/apis/networking.k8s.io/v1/networkpolicies")
        wanted = chains(get("/api/v1/namespaces"), get("/api/v1/pods"), policies)
        if wanted == self._now:
            return
        lines = [f":{chain} - [0:0]" for chain in wanted | self._now]
        lines += [f"-A {chain} {rule}" for chain, rules in wanted.items() for rule in rules]
        lines += [f"-X {chain}" for chain in self._now if chain not in wanted]
        _restore(lines)
        if not self._now:
            for hook in HOOKS:
                _iptables("-I", hook, "1", "-j", TOP)
        self._now = wanted

    def stop(self) -> None:
        if self._now:
            for hook in HOOKS:
                _iptables("-D", hook, "-j", TOP)
            _restore([*(f":{chain} - [0:0]" for chain in self._now), *(f"-X {chain}" for chain in self._now)])
        self._now = {}


def _restore(lines: Sequence[str]) -> None:
    text = "\n".join(["*filter", *lines, "COMMIT", ""])
    subprocess.run(["iptables-restore", "--noflush", "--wait"], input=text, text=True, check=True)


def _iptables(*arguments: str) -> None:
    subprocess.run(["iptables", "--wait", *arguments], check=True)


def main() -> None:
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    enforcer = Enforcer(connect(Access()))
    try:
        while not over.wait(SECONDS):
            enforcer.step()
    finally:
        enforcer.stop()


if __name__ == "__main__":
    main()
