"""NetworkPolicies and Namespaces of the API as facts (networking.k8s.io/v1; policies of other APIs by name only)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from netk8s.decode._json import JsonObject, clean
from netk8s.model import (
    SCTP,
    TCP,
    UDP,
    Namespace,
    NetworkPolicy,
    OtherPolicy,
    PolicyPeer,
    PolicyPort,
    PolicyRule,
    Requirement,
    Selector,
)

PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
OTHERS = frozenset(
    {
        "GlobalNetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "AdminNetworkPolicy",
        "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy",
    }
)  # fmt: skip
"""Kinds of other policies; calico's own NetworkPolicy has the kind's name in common and another group."""
_GROUPS = frozenset({"", "networking.k8s.io", "extensions"})
_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


def ours(item: JsonObject) -> bool:
    """Whether an object of kind NetworkPolicy, or a list of them, is of the API and not of calico's."""
    return (item.text("apiVersion") or "").rpartition("/")[0] in _GROUPS


def policy(item: JsonObject, metadata: JsonObject, kind: str) -> NetworkPolicy | OtherPolicy:
    """A policy. Raises DecodeError for one that the API would not take."""
    if kind != "NetworkPolicy" or not ours(item):
        return OtherPolicy(clean(kind), metadata.text("namespace") or "", metadata.need("name"), item.at)
    spec = item.child("spec") or item.empty("spec")
    egress = tuple(_rules(spec, "egress", "to"))
    types = tuple(dict.fromkeys(text.lower() for text in spec.texts("policyTypes")))
    if not set(types) <= {"ingress", "egress"}:
        raise spec.wrong("policyTypes", "Ingress or Egress")
    return NetworkPolicy(
        namespace=metadata.text("namespace") or "default",
        name=metadata.need("name"),
        pods=_selector(spec, "podSelector") or (),
        # pkg/apis/networking/v1/defaults.go: ingress always, egress where the policy has rules for it.
        types=types or (("ingress", "egress") if egress else ("ingress",)),
        ingress=tuple(_rules(spec, "ingress", "from")),
        egress=egress,
        at=item.at,
    )


def namespace(item: JsonObject, metadata: JsonObject) -> Namespace:
    labels = metadata.child("labels")
    found = ((clean(name), labels.text(name) or "") for name in labels.members) if labels else ()
    return Namespace(metadata.need("name"), tuple(sorted(found)), item.at)


def _rules(spec: JsonObject, key: str, peers: str) -> Iterator[PolicyRule]:
    for rule in spec.children(key):
        # A list that is empty is as one that is left out: from everywhere, to every port.
        found = tuple(_peer(peer) for peer in rule.children(peers))
        ports = tuple(_port(port) for port in rule.children("ports"))
        yield PolicyRule(found or None, ports or None)


def _peer(peer: JsonObject) -> PolicyPeer:
    block = peer.child("ipBlock")
    if block is not None:
        try:
            net = ip_network(block.need("cidr"), strict=False)
        except ValueError:
            raise block.wrong("cidr", "an address range as in 10.0.0.0/8") from None
        return PolicyPeer(block=net, excluded=block.nets("except"))
    pods, namespaces = _selector(peer, "podSelector"), _selector(peer, "namespaceSelector")
    if pods is None and namespaces is None:
        raise peer.wrong("podSelector", "a podSelector, a namespaceSelector or an ipBlock")
    return PolicyPeer(pods, namespaces)


def _port(port: JsonObject) -> PolicyPort:
    protocol = PROTOCOLS.get(port.text("protocol") or "TCP")
    if protocol is None:
        raise port.wrong("protocol", "TCP, UDP or SCTP")
    named = port.members.get("port")
    number = port.text("port") if isinstance(named, str) else port.number("port", 1, 65535)
    end = port.number("endPort", 1, 65535)
    if end is not None and (not isinstance(number, int) or end < number):
        raise port.wrong("endPort", "a number that is not below a numeric port")
    return PolicyPort(protocol, number, end)


def _selector(item: JsonObject, key: str) -> Selector | None:
    selector = item.child(key)
    if selector is None:
        return None
    labels = selector.child("matchLabels")
    out = [Requirement(clean(name), "In", (labels.text(name) or "",)) for name in labels.members] if labels else []
    for each in selector.children("matchExpressions"):
        operator = each.need("operator")
        if operator not in _OPERATORS:
            raise each.wrong("operator", "In, NotIn, Exists or DoesNotExist")
        out.append(Requirement(each.need("key"), operator, each.texts("values")))
    return tuple(out)
