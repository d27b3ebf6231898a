"""Random NetworkPolicies for the pods of test_policies.py: every kind of peer, port and direction."""

from __future__ import annotations

import random
from typing import Any

LABELS = (
    {}, {"app": "web"}, {"app": "front"}, {"app": "back"}, {"app": "probe"}, {"app": "far"}, {"role": "server"},
    {"role": "client"},
)  # fmt: skip
NAMESPACES = ("shop", "lab")
BLOCKS = {
    "192.168.52.0/24": ("192.168.52.202/32", "192.168.52.48/30"),
    "192.168.52.48/28": (),
    "10.244.0.0/16": ("10.244.1.0/24", "10.244.1.6/32", "10.244.2.0/29"),
    "10.244.1.0/24": ("10.244.1.4/30",),
    "10.244.2.5/32": (),
}


def policies(seed: int, excepts: bool, both: bool) -> list[dict[str, Any]]:
    """One to four policies. ``excepts``: ipBlocks with exceptions; ``both``: one policy may have both directions."""
    rnd = random.Random(seed)  # noqa: S311 nothing secret
    kinds = [["Ingress"], ["Ingress"], ["Egress"], *([["Ingress", "Egress"]] if both else [])]
    out = []
    for number in range(rnd.randint(1, 4)):
        types = rnd.choice(kinds)
        spec: dict[str, Any] = {"podSelector": _selector(rnd), "policyTypes": types}
        for kind in types:
            peers = "from" if kind == "Ingress" else "to"
            spec[kind.lower()] = [_rule(rnd, peers, excepts) for _ in range(rnd.randint(0, 2))]
        metadata = {"namespace": rnd.choice(("shop", *NAMESPACES)), "name": f"p{number}"}
        out.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    return out


def _selector(rnd: random.Random) -> dict[str, Any]:
    labels = rnd.choice(LABELS)
    return {"matchLabels": labels} if labels else {}


def _rule(rnd: random.Random, peers: str, excepts: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if rnd.random() < 0.8:
        found = [_peer(rnd, excepts) for _ in range(rnd.randint(1, 2))]
        # kube-router has the blocks of a rule in one set, where what one of them leaves out is out for all.
        rule[peers] = found[:1] if all("ipBlock" in peer for peer in found) else found
    if rnd.random() < 0.5:
        rule["ports"] = [_port(rnd) for _ in range(rnd.randint(1, 2))]
    return rule


def _peer(rnd: random.Random, excepts: bool) -> dict[str, Any]:
    space = {"matchLabels": {"kubernetes.io/metadata.name": rnd.choice(NAMESPACES)}}
    kind = rnd.randrange(4)
    if kind == 0:
        return {"podSelector": _selector(rnd)}
    if kind == 1:
        return {"namespaceSelector": rnd.choice(({}, space))}
    if kind == 2:
        return {"namespaceSelector": space, "podSelector": _selector(rnd)}
    cidr = rnd.choice(sorted(BLOCKS))
    parts = BLOCKS[cidr]
    block: dict[str, Any] = {"cidr": cidr}
    if excepts and parts and rnd.random() < 0.6:
        block["except"] = rnd.sample(parts, rnd.randint(1, min(2, len(parts))))
    return {"ipBlock": block}


def _port(rnd: random.Random) -> dict[str, Any]:
    port: dict[str, Any] = {"protocol": rnd.choice(("TCP", "UDP"))} if rnd.random() < 0.5 else {}
    kind = rnd.randrange(3)
    if kind:
        port["port"] = rnd.choice((53, 79, 80, 8080))
    if kind == 2:
        port["endPort"] = port["port"] + rnd.choice((0, 1, 27, 8000))
    return port
