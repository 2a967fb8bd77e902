"""The rules that policies become. Needs no cluster."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tests.cluster.enforcer import TOP, chains

NAMESPACES: list[Any] = [{"metadata": {"name": "a", "labels": {"team": "red"}}}, {"metadata": {"name": "b"}}]


def _pod(namespace: str, address: str, labels: dict[str, str], phase: str = "Running", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "labels": labels}, "spec": spec, "status": {"phase": phase, "podIP": address}}


PODS = [
    _pod("a", "10.0.0.1", {"app": "server"}),
    _pod("a", "10.0.0.2", {"app": "client"}),
    _pod("b", "10.0.0.3", {"app": "client"}),
    _pod("b", "10.0.0.4", {"app": "client"}, phase="Succeeded"),
    _pod("b", "192.0.2.9", {"app": "client"}, hostNetwork=True),
]


def _policy(namespace: str, selector: dict[str, Any], types: list[str], **rules: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace}, "spec": {"podSelector": selector, "policyTypes": types, **rules}}


def _of(policies: list[Any], hook: str) -> list[str]:
    """The chain that TOP sends the pod to with this address and side, such as ``-s 10.0.0.1``."""
    found = chains(NAMESPACES, PODS, policies)
    (chain,) = [rule.split()[-1] for rule in found[TOP] if rule.startswith(f"{hook} ")]
    return found[chain]


def test_whoever_no_policy_selects_is_free() -> None:
    policies = [_policy("a", {}, ["Ingress"])]
    assert list(chains(NAMESPACES, PODS, [])) == [TOP]
    hooks = [" ".join(rule.split()[:2]) for rule in chains(NAMESPACES, PODS, policies)[TOP] if "SF-" in rule]
    assert hooks == ["-d 10.0.0.1", "-d 10.0.0.2"]


def test_a_policy_without_rules_lets_nothing_through() -> None:
    assert _of([_policy("b", {}, ["Ingress", "Egress"])], "-s 10.0.0.3") == ["-j DROP"]


def test_answers_and_questions_about_names_go_through() -> None:
    first, *rest = chains(NAMESPACES, PODS, [])[TOP]
    assert first == "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    assert rest == [f"-m addrtype --dst-type LOCAL -p {protocol} --dport 53 -j RETURN" for protocol in ("udp", "tcp")]


@pytest.mark.parametrize(
    ("peer", "addresses"),
    [
        ({"podSelector": {"matchLabels": {"app": "client"}}}, ["10.0.0.2"]),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}, ["10.0.0.2", "10.0.0.3"]),
        ({"namespaceSelector": {"matchLabels": {"team": "red"}}}, ["10.0.0.1", "10.0.0.2"]),
        # By the name that Kubernetes writes on it.
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}}, ["10.0.0.3"]),
    ],
)
def test_peers_are_the_living_pods_with_addresses_of_their_own(peer: dict[str, Any], addresses: list[str]) -> None:
    rule = {"from": [peer], "ports": [{"port": 80, "protocol": "TCP"}]}
    policy = _policy("a", {"matchLabels": {"app": "server"}}, ["Ingress"], ingress=[rule])
    assert _of([policy], "-d 10.0.0.1") == [*(f"-s {address} -p tcp --dport 80 -j RETURN" for address in addresses), "-j DROP"]


def test_rules_of_all_policies_add_up_and_lack_of_peers_or_ports_means_all() -> None:
    server = {"matchLabels": {"app": "server"}}
    policies = [
        _policy("a", {}, ["Egress"]),
        _policy("a", server, ["Egress"], egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}]),
        _policy("a", server, ["Egress"], egress=[{"to": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]),
    ]
    assert _of(policies, "-s 10.0.0.1") == ["-d 0.0.0.0/0 -p udp --dport 53 -j RETURN", "-d 10.0.0.2 -j RETURN", "-j DROP"]


def test_exceptions_are_cut_out_of_a_block() -> None:
    block = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16", "10.0.0.0/8"]}}
    rules = _of([_policy("b", {}, ["Egress"], egress=[{"to": [block], "ports": [{"port": 443}]}])], "-s 10.0.0.3")
    blocks = [ipaddress.ip_network(rule.split()[1]) for rule in rules[:-1]]
    assert all(" -p tcp --dport 443 -j RETURN" in rule for rule in rules[:-1])
    assert sum(part.num_addresses for part in blocks) == 2**32 - 2**16 - 2**24
    for address, inside in (("169.254.169.254", False), ("10.1.2.3", False), ("169.253.0.1", True), ("11.0.0.1", True)):
        assert any(ipaddress.ip_address(address) in part for part in blocks) is inside, address
