"""``check --beside`` of the recorded cases, and of them with NetworkPolicies, held against the check of all nodes."""

from __future__ import annotations

import functools
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netk8s import checkup, decode, dialects, elsewhere, parts, snapshot, survey
from netk8s.checkup import Checkup, lines
from netk8s.live import objects
from netk8s.model import Dump, Snapshot
from netk8s.problems import said

SOME = [
    "headline-nodeport-30000", "broken-stale-node", "broken-missing-route", "iptables-nft-cni-ipmasq-forward-drop",
    "both-backends-stale-nft-wins", "iptables-nft-flannel-vxlan", "iptables-legacy-ipvlan-l2",
]  # fmt: skip
POLICIES = ("NK430", "NK431", "NK432")
SEEN_AS = "in its place"
"""Of an address that another node rewrote: which address it was, the pod's node does not see."""


def cases() -> list[str]:
    """Every case but the largest where NETK8S_ALL_CASES is set: minutes. Else SOME."""
    root = os.environ.get("NETK8S_CORPUS")
    folder = Path(root) if root else Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
    if not os.environ.get("NETK8S_ALL_CASES"):
        return SOME
    return sorted(case.parent.name for case in folder.glob("*/case.json") if not case.parent.name.startswith("scale"))


def together(found: Snapshot) -> Checkup:
    return checkup.check(dialects.complete(decode.decode(found)))


def apart(found: Snapshot) -> Checkup:
    """Each node's part, made of what its agent is sent and this node's dumps alone."""
    taken = Snapshot(tuple(dump for dump in found.dumps if dump.node is None))
    world = decode.decode(taken)
    fold = parts.Fold(survey.ports(world, ()), [item.name for item in world.cluster.nodes])
    pods = elsewhere.of(world.cluster)
    assert pods is not None
    packed = objects.for_nodes(taken, elsewhere.texts(pods), bool(world.cluster.policies))
    for name in sorted({dump.node for dump in found.dumps if dump.node is not None}):
        sent = snapshot.read(["-"], stdin=io.BytesIO(packed.bundle(name)))
        mine = Snapshot((*sent.dumps, *(dump for dump in found.dumps if dump.node == name)))
        fold.add(parts.part(checkup.check(dialects.complete(decode.decode(mine)), alone=True)))
    return fold.checkup()


@functools.cache
def checked(corpus: Path, case: str) -> tuple[Checkup, Checkup]:
    found = snapshot.read([str(corpus / case)])
    return together(found), apart(found)


def kinds(found: Checkup) -> set[tuple[str, str]]:
    return {(p.finding.code, p.finding.severity) for p in found.problems}


@pytest.mark.parametrize("case", cases())
def test_the_same_findings_of_the_same_severity(corpus: Path, case: str) -> None:
    if case.startswith("iptables-legacy-ipvlan-l3"):
        pytest.xfail("a pod's answers pass its node by: which way they take is told by the other nodes' routes")
    whole, folded = checked(corpus, case)
    assert kinds(whole) == kinds(folded)
    assert folded.count("unknown") == whole.count("unknown")


@pytest.mark.parametrize("case", cases())
def test_the_same_services_fail(corpus: Path, case: str) -> None:
    if case.startswith("iptables-legacy-ipvlan-l3"):
        pytest.xfail("a pod's answers pass its node by: which way they take is told by the other nodes' routes")
    failing = [{line.port.key for line in lines(each) if line.arrive < line.asked} for each in checked(corpus, case)]
    assert failing[0] == failing[1]
    seen = [{line.port.key: line.outside for line in lines(each)} for each in checked(corpus, case)]
    assert seen[0] == seen[1]


# ---------------------------------------------------------------- with NetworkPolicies


def policies(rnd: random.Random, pods: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    labels = sorted({pair for pod in pods for pair in (pod["metadata"].get("labels") or {}).items()})
    spaces = sorted({pod["metadata"]["namespace"] for pod in pods})
    blocks = ("10.244.0.0/16", "10.244.1.0/24", "192.168.52.0/24", "198.51.100.0/24")

    def selector() -> dict[str, Any]:
        return {} if rnd.random() < 0.25 else {"matchLabels": dict([rnd.choice(labels)])}

    def peer() -> dict[str, Any]:
        named = {"matchLabels": {"kubernetes.io/metadata.name": rnd.choice(spaces)}}
        return rnd.choice(
            (
                {"podSelector": selector()},
                {"namespaceSelector": rnd.choice(({}, named))},
                {"namespaceSelector": {}, "podSelector": selector()},
                {"ipBlock": {"cidr": rnd.choice(blocks)}},
            )
        )

    for number in range(rnd.randint(1, 4)):
        types = rnd.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
        spec: dict[str, Any] = {"podSelector": selector(), "policyTypes": types}
        for kind in types:
            ends, ports = "from" if kind == "Ingress" else "to", ({"port": 80}, {"port": 8080}, {"protocol": "UDP"})
            spec[kind.lower()] = [
                {
                    **({ends: [peer() for _ in range(rnd.randint(1, 2))]} if rnd.random() < 0.8 else {}),
                    **({"ports": [rnd.choice(ports)]} if rnd.random() < 0.4 else {}),
                }
                for _ in range(rnd.randint(0, 2))
            ]
        metadata = {"namespace": rnd.choice(spaces), "name": f"p{number}"}
        yield {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def with_policies(corpus: Path, case: str, seed: int) -> Snapshot:
    found = snapshot.read([str(corpus / case)])
    pods = json.loads(next(dump for dump in found.dumps if dump.origin == "cluster/pods.json").data)["items"]
    rnd = random.Random(seed)  # noqa: S311 nothing secret
    items = list(policies(rnd, pods))
    listed = {"apiVersion": "v1", "kind": "NetworkPolicyList", "items": items}
    dump = Dump("cluster/networkpolicies.json", json.dumps(listed).encode())
    return Snapshot((*(each for each in found.dumps if each.origin != dump.origin), dump))


def told(found: Checkup) -> dict[tuple[str, str, str], set[str]]:
    """The Services of each finding about policies."""
    names = dict.fromkeys(found.nodes)
    out: dict[tuple[str, str, str], set[str]] = {}
    for problem in found.problems:
        one = problem.finding
        if one.code in POLICIES and SEEN_AS not in one.summary:
            out.setdefault((one.code, one.severity, said(one.summary, names)), set()).update(problem.services)
    return out


@pytest.mark.parametrize("seed", range(1, int(os.environ.get("NETK8S_POLICY_SEEDS", "6"))))
@pytest.mark.parametrize("case", ["headline-nodeport-30000", "broken-missing-route"])
def test_policies_are_told_of_alike(corpus: Path, case: str, seed: int) -> None:
    found = with_policies(corpus, case, seed)
    whole, folded = told(together(found)), told(apart(found))
    # Here one node stands for those that are alike; beside the data each has clients of its own, which policies may select.
    assert all(services <= folded.get(key, set()) for key, services in whole.items())
    assert {code for code, *_ in folded} >= {code for code, *_ in whole}
