"""Changes of recorded clusters: what is touched comes out as real connections did for Services of that kind, the rest stays.

What a Service that is Cluster, Local or without endpoints does was measured in these very clusters, on other Services.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from netk8s import dialects, snapshot
from netk8s.comparison import Difference, between
from netk8s.model import Snapshot
from netk8s.survey import Ground
from netk8s.whatif import Wanted, whatif

UNTOUCHED = "default/web-local"


@lru_cache(maxsize=1)
def taken(folder: Path) -> Snapshot:
    return snapshot.read([str(folder)])


def differing(folder: Path, service: str, wanted: Wanted) -> list[Difference]:
    """The flows of a Service that come out differently. Those of another Service do not."""
    found = whatif(taken(folder), wanted)
    grounds = tuple(Ground.of(dialects.complete(world)) for world in (found.before, found.after))
    services = (service, UNTOUCHED)
    told = between((grounds[0], grounds[1]), lambda ports: [port.key for port in ports if port.service in services])
    assert {each.question.port.service for each in told.flows} <= {service}
    assert told.unknown == 0
    return list(told.flows)


def outside(flows: list[Difference], *, endpoint: bool) -> list[Difference]:
    """Those of a client outside that dials a node's own address with or without an endpoint behind it."""
    return [
        each for each in flows
        if each.question.kind == "NodePort" and each.question.sender is None and each.question.at is not None
        and each.question.at.beside == endpoint
    ]  # fmt: skip


@pytest.mark.parametrize("case", ["nftables-matrix", "nftables-dual-stack-kp136", "ipvs-rr-matrix"])
def test_local(corpus: Path, case: str) -> None:
    """From outside: the client is seen, by the node's own endpoints. Without one nftables mode is silent, IPVS mode takes
    the endpoints of others. The ClusterIP is as before."""
    flows = differing(corpus / case, "default/nginx", Wanted(external=("nginx=Local",)))
    assert {each.question.dialled.kind for each in flows} == {"NodePort"}
    served = outside(flows, endpoint=True)
    assert served
    for each in served:
        assert each.b.verdicts == {"delivered"}
        assert {(r.node, r.seen) for r in each.b.results} == {
            (each.question.at.node if each.question.at else "", "kept")
        }
    stopped = outside(flows, endpoint=False)
    assert {frozenset(each.a.verdicts) for each in stopped} <= {frozenset({"delivered"})}
    if case == "ipvs-rr-matrix":
        # Delivered as before, and by nobody's doing with the client's address (the pods' network masquerades it here).
        assert all(each.b.endpoints == each.a.endpoints for each in stopped)
    else:
        assert stopped
        assert {frozenset(each.b.verdicts) for each in stopped} == {frozenset({"dropped"})}


def test_cluster(corpus: Path) -> None:
    """From outside through any node: every endpoint, and none sees the client."""
    flows = differing(corpus / "nftables-matrix-kp136", "default/both-local", Wanted(external=("both-local=Cluster",)))
    reached = outside(flows, endpoint=True) + outside(flows, endpoint=False)
    assert len(reached) >= 2
    for each in reached:
        assert len(each.b.endpoints) == 2
        assert each.b.verdicts == {"delivered"}
        assert "kept" not in {r.seen for r in each.b.results}


@pytest.mark.parametrize("case", ["nftables-matrix", "ipvs-rr-matrix"])
def test_inside_local(corpus: Path, case: str) -> None:
    """Of the policy Local inside: silence on a node without endpoint, refused in IPVS mode for a ClusterIP alone."""
    flows = differing(corpus / case, "kube-system/kube-dns", Wanted(internal=("kube-system/kube-dns=Local",)))
    assert {each.question.dialled.kind for each in flows} == {"ClusterIP"}
    senders = {}
    for each in flows:
        where = each.question.sender or each.question.at
        assert where is not None
        senders.setdefault(where.node, set()).update(each.b.verdicts)
        assert {r.node for r in each.b.results if r.verdict == "delivered"} <= {where.node}
    assert senders["k8s-node2"] == {"refused" if case == "ipvs-rr-matrix" else "dropped"}
    assert senders["k8s-node1"] == {"delivered"}


@pytest.mark.parametrize("case", ["nftables-matrix-kp136", "ipvs-rr-matrix"])
def test_without_endpoints(corpus: Path, case: str) -> None:
    """Refused, wherever it is dialled."""
    ends = [str(e.ip) for e in whatif(taken(corpus / case), Wanted()).before.cluster.endpoints if e.service == "nginx"]
    assert len(ends) == 3
    flows = differing(corpus / case, "default/nginx", Wanted(endpoints=tuple(ends)))
    assert {each.question.dialled.kind for each in flows} == {"NodePort", "ClusterIP"}
    assert {frozenset(each.b.verdicts) for each in flows} == {frozenset({"refused"})}


def test_affinity(corpus: Path) -> None:
    flows = differing(corpus / "ipvs-rr-matrix", "default/nginx", Wanted(affinity=("nginx=ClientIP",)))
    assert flows
    assert {each.kind for each in flows} == {"affinity"}


def test_a_rule_of_nft_stops_what_it_names(corpus: Path) -> None:
    """Behind the translation: a NodePort's packets have the endpoint's address and port there."""
    pod = "k8s-node1: insert rule ip filter FORWARD ip daddr 10.244.1.0/24 tcp dport 80 counter drop"
    own = ("k8s-node1: add table inet fw", "k8s-node1: add chain inet fw f { type filter hook forward priority 0; }",
           "k8s-node1: add rule inet fw f tcp dport 80 ip daddr 10.244.1.0/24 drop")  # fmt: skip
    case = corpus / "nftables-matrix-kp136"
    told = [
        {
            (str(each.question), each.kind, each.b.verdicts)
            for each in differing(case, "default/nginx", Wanted(rules=rules))
        }
        for rules in ((pod,), own)
    ]
    assert told[0]
    assert told[0] == told[1]
