"""What the API's NetworkPolicies intend for a connection, whatever any rules make of it.

networking.k8s.io/v1 (kubernetes staging/src/k8s.io/api/networking/v1/types.go) and the page "Network Policies" of the
Kubernetes documentation. Policies only add up: a pod that one selects may do in that direction what any of them admits,
and nothing else; a pod that none selects may do anything. An answer to an admitted packet is admitted.

Three truth values: None where a label, an address or the API itself leaves it open.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from netk8s.model import (
    SCTP,
    TCP,
    UDP,
    Addr,
    Cluster,
    Namespace,
    NetworkPolicy,
    Pod,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
)

INGRESS, EGRESS = "ingress", "egress"
NAME_LABEL = "kubernetes.io/metadata.name"
"""Every namespace has it with its own name as the value (Kubernetes 1.21); the API server puts it there."""


class Party(Struct, frozen=True):
    """One end of a connection: an address, its pod, and the node whose own address it is.

    ``pod`` None: no pod's; a pod with hostNetwork is its node. ``ip_known`` False: the address only stands for another.
    """

    ip: Addr
    pod: Pod | None = None
    node: str | None = None
    ip_known: bool = True


class Intent(Struct, frozen=True):
    """What the policies of a pod want in one direction. ``allowed`` None: not known, for the reason ``why``.

    ``selecting`` are the policies that isolate the pod, ``admitting`` those of them that admit the connection.
    """

    allowed: bool | None
    selecting: tuple[NetworkPolicy, ...] = ()
    admitting: tuple[NetworkPolicy, ...] = ()
    why: str = ""


def intended(cluster: Cluster, direction: str, of: Party, other: Party, protocol: int, port: int | None) -> Intent:
    """What the policies of ``of`` want of a connection to (ingress) or from it (egress).

    ``port`` is the port at the end that is connected to, as the receiving pod knows it: behind any Service.
    """
    if of.pod is None or of.pod.host_network:
        return Intent(True, why="policies apply to pods with a network of their own")
    chosen = selecting(cluster, of.pod, direction)
    if not chosen:
        return Intent(True, why="no policy selects the pod")
    if other.pod is not None and (other.pod.namespace, other.pod.name) == (of.pod.namespace, of.pod.name):
        return Intent(True, chosen, why="a pod may always reach itself")
    own_node = other.node is not None and other.node == of.pod.node
    if own_node and direction == INGRESS:
        return Intent(True, chosen, why="a pod's own node may always reach it")
    if protocol not in (TCP, UDP, SCTP):
        return Intent(None, chosen, why="the API leaves protocols other than TCP, UDP and SCTP to the plugin")
    receiver = of.pod if direction == INGRESS else other.pod
    said = {
        p: _any(_rule(cluster, p, r, other, receiver, protocol, port) for r in _rules(p, direction)) for p in chosen
    }
    admitting = tuple(p for p in chosen if said[p])
    if admitting:
        return Intent(True, chosen, admitting)
    if None in said.values():
        return Intent(None, chosen, why="no dump has the labels or the address that decide")
    if own_node:
        return Intent(None, chosen, why="plugins differ in whether policies keep a pod from its own node")
    return Intent(False, chosen)


@lru_cache(maxsize=1024)
def selecting(cluster: Cluster, pod: Pod, direction: str) -> tuple[NetworkPolicy, ...]:
    """The policies that isolate a pod in a direction."""
    if pod.host_network:
        return ()
    labels = dict(pod.labels)
    return tuple(
        p for p in cluster.policies if p.namespace == pod.namespace and direction in p.types and matches(p.pods, labels)
    )


def selected(cluster: Cluster, policy: NetworkPolicy) -> tuple[Pod, ...]:
    """The pods that a policy selects."""
    return tuple(
        pod
        for pod in cluster.pods
        if pod.namespace == policy.namespace and not pod.host_network and matches(policy.pods, dict(pod.labels))
    )


def matches(selector: Selector, labels: dict[str, str]) -> bool:
    """Whether labels meet every requirement of a selector (apimachinery pkg/labels/selector.go).

    NotIn and DoesNotExist hold for labels without the key.
    """
    return all(_meets(requirement, labels) for requirement in selector)


def _meets(requirement: Requirement, labels: dict[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case _:
            return value is None


# ---------------------------------------------------------------- rules


def _rules(policy: NetworkPolicy, direction: str) -> tuple[PolicyRule, ...]:
    return policy.ingress if direction == INGRESS else policy.egress


def _rule(
    cluster: Cluster,
    policy: NetworkPolicy,
    rule: PolicyRule,
    other: Party,
    receiver: Pod | None,
    protocol: int,
    port: int | None,
) -> bool | None:
    if rule.ports is not None and not any(_port(p, receiver, protocol, port) for p in rule.ports):
        return False
    return True if rule.peers is None else _any(_peer(cluster, policy, peer, other) for peer in rule.peers)


def _port(wanted: PolicyPort, receiver: Pod | None, protocol: int, port: int | None) -> bool:
    if wanted.protocol != protocol:
        return False
    if wanted.port is None:
        return True
    if isinstance(wanted.port, str):
        # The name is looked up in the receiving pod; an address that is no pod's has no names.
        known = receiver.ports if receiver is not None and not receiver.host_network else ()
        return any((name, number, proto) == (wanted.port, port, protocol) for name, number, proto, _, _ in known)
    return port is not None and wanted.port <= port <= (wanted.end or wanted.port)


def _peer(cluster: Cluster, policy: NetworkPolicy, peer: PolicyPeer, other: Party) -> bool | None:
    if peer.block is not None:
        return _block(peer, other)
    # Most plugins cannot tell a pod with hostNetwork from its node, so no selector finds it.
    if other.pod is None or other.pod.host_network:
        return False
    if peer.pods is not None and not matches(peer.pods, dict(other.pod.labels)):
        return False
    if peer.namespaces is None:
        return other.pod.namespace == policy.namespace
    return _namespace(cluster, peer.namespaces, other.pod.namespace)


def _block(peer: PolicyPeer, other: Party) -> bool | None:
    if peer.block is None or peer.block.version != other.ip.version:
        return False
    if not other.ip_known:
        return True if peer.block.prefixlen == 0 and not peer.excluded else None
    return other.ip in peer.block and not any(other.ip in part for part in peer.excluded)


def _namespace(cluster: Cluster, selector: Selector, name: str) -> bool | None:
    known = _namespaces(cluster).get(name)
    if known is not None:
        return matches(selector, dict(known.labels))
    # Without the object only the name's label is known.
    by_name = [r for r in selector if r.key == NAME_LABEL]
    if not matches(tuple(by_name), {NAME_LABEL: name}):
        return False
    return True if len(by_name) == len(selector) else None


@lru_cache(maxsize=8)
def _namespaces(cluster: Cluster) -> dict[str, Namespace]:
    return {namespace.name: namespace for namespace in cluster.namespaces}


def _any(said: Iterable[bool | None]) -> bool | None:
    """Whether one of them holds; None where none does for sure."""
    answers = list(said)
    return True if True in answers else None if None in answers else False
