"""kube-proxy's IPVS mode: Services behind virtual servers, and the sets that a dump leaves out."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, dialects, snapshot
from netk8s.dialects import kube_proxy_ipvs
from netk8s.errors import NotFound
from netk8s.model import (
    TCP,
    Address,
    Ask,
    At,
    Chain,
    Cluster,
    IpSet,
    Match,
    Node,
    Option,
    RealServer,
    Rule,
    ServicePort,
    Step,
    Table,
    Target,
    VirtualServer,
    World,
)

A = ip_address
VIP, LB, NODE = A("10.96.0.1"), A("198.51.100.240"), A("192.168.10.5")
R1, R2 = A("10.244.1.5"), A("10.244.2.5")
POOL = (RealServer(R1, 8080, 1), RealServer(R2, 8080, 3))
NODE_DUMP = Node(
    "n",
    addresses=(
        Address("eth0", NODE, 24, "global"),
        Address("kube-ipvs0", VIP, 32, "global"),
        Address("kube-ipvs0", LB, 32, "global"),
    ),
    virtual_servers=(
        VirtualServer(4, TCP, VIP, 80, "rr", real=POOL),
        VirtualServer(4, TCP, LB, 80, "wrr", real=POOL, persistence=600),
        VirtualServer(4, TCP, NODE, 30080, "lc", real=POOL),
        VirtualServer(4, TCP, A("10.244.1.1"), 30080, "lc", real=POOL),
    ),
    covered=frozenset({"ipvs", "addr"}),
)
SERVICE = ServicePort(
    "shop", "web", "http", TCP, 80, "8080", 30080, "LoadBalancer", (VIP,), lb_ips=(LB,),
    lb_source_ranges=("192.168.10.0/24",), external_policy="Local", health_check_node_port=32000,
)  # fmt: skip
CLUSTER = Cluster(services=(SERVICE,), covered=frozenset({"services"}))


def rows(node: Node = NODE_DUMP, cluster: Cluster = CLUSTER, **narrow: object) -> dict[str, object]:
    return {row.kind: row for row in kube_proxy_ipvs.programmed(node, cluster, **narrow)}  # type: ignore[arg-type]


def test_services_by_the_objects() -> None:
    found = list(kube_proxy_ipvs.programmed(NODE_DUMP, CLUSTER))
    assert [(r.kind, r.service, r.port_name, r.ip, r.port) for r in found] == [
        ("ClusterIP", "shop/web", "http", VIP, 80),
        ("LoadBalancer", "shop/web", "http", LB, 80),
        ("NodePort", "shop/web", "http", None, 30080),
    ]
    assert [[b.odds for b in r.backends] for r in found] == [
        [Fraction(1, 2), Fraction(1, 2)],
        [Fraction(1, 4), Fraction(3, 4)],
        [None, None],
    ]
    assert [r.affinity for r in found] == [False, True, False]
    assert {r.chain for r in found} == {"IPVS rr", "IPVS wrr", "IPVS lc"}


def test_services_by_the_sets() -> None:
    sets = (
        IpSet("KUBE-CLUSTER-IP", "hash:ip,port", (), ('10.96.0.1,tcp:80 comment "shop/web:http"',), At("x")),
        IpSet("KUBE-LOAD-BALANCER", "hash:ip,port", (), ("198.51.100.240,tcp:80",), At("x")),
        IpSet("KUBE-NODE-PORT-TCP", "bitmap:port", (), ("30080",), At("x")),
        IpSet("OTHER", "hash:ip,port", (), ("198.51.100.240,tcp:80",), At("x")),
    )
    found = list(kube_proxy_ipvs.programmed(replace(NODE_DUMP, sets=sets), Cluster()))
    assert [(r.kind, r.service, r.port_name) for r in found] == [
        ("ClusterIP", "shop/web", "http"),
        ("LoadBalancer", "", ""),
        ("NodePort", "", ""),
    ]


def test_services_by_their_addresses() -> None:
    """With neither objects nor sets: what is on kube-ipvs0 is virtual, the rest are NodePorts of the node."""
    found = list(kube_proxy_ipvs.programmed(NODE_DUMP, Cluster()))
    assert [(r.kind, r.ip) for r in found] == [
        ("ClusterIP", VIP), ("ClusterIP", LB), ("NodePort", None), ("ClusterIP", A("10.244.1.1")),
    ]  # fmt: skip


def test_narrowed() -> None:
    assert set(rows(mention="shop/web")) == {"ClusterIP", "LoadBalancer", "NodePort"}
    assert set(rows(mention=f"-d {LB}/")) == {"LoadBalancer"}
    assert set(rows(node_port=30080)) == {"NodePort"}
    assert rows(mention="shop/other") == {}


def test_quiesced_and_empty() -> None:
    node = replace(
        NODE_DUMP,
        virtual_servers=(
            VirtualServer(4, TCP, VIP, 80, "rr", real=(POOL[0], replace(POOL[1], weight=0))),
            VirtualServer(4, TCP, LB, 80, "rr"),
        ),
    )
    drained, empty = kube_proxy_ipvs.programmed(node, CLUSTER)
    assert [b.odds for b in drained.backends] == [1, 0]
    assert (drained.verdict, empty.verdict) == ("", "REJECT")


# ---------------------------------------------------------------- sets that no dump has


class Listed:
    def __len__(self) -> int:
        return 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(())

    def relevant(self, daddr: str, protocol: str, dport: int | None) -> tuple[Rule, ...]:
        return ()

    def mentioning(self, text: str) -> tuple[Rule, ...]:
        return ()

    def texts(self) -> tuple[tuple[int, str], ...]:
        return ()


NAT = Table(4, "nat", "legacy", {"KUBE-NODE-PORT": Chain("KUBE-NODE-PORT", None, Listed(), At("x"))}, At("x"))


def sets(cluster: Cluster) -> dict[str, tuple[str, ...]]:
    found = kube_proxy_ipvs.complete_node(replace(NODE_DUMP, tables=(NAT,)), cluster)
    assert found is not None
    node, note, gap = found
    assert "ipset" in gap.what
    assert "no dump has the ipsets of n" in note
    return {s.name: s.entries for s in node.sets}


def test_sets_of_the_services() -> None:
    found = sets(CLUSTER)
    assert found["KUBE-CLUSTER-IP"] == ("10.96.0.1,tcp:80",)
    assert found["KUBE-LOAD-BALANCER"] == found["KUBE-LOAD-BALANCER-LOCAL"] == ("198.51.100.240,tcp:80",)
    assert found["KUBE-LOAD-BALANCER-SOURCE-CIDR"] == ("198.51.100.240,tcp:80,192.168.10.0/24",)
    assert found["KUBE-LOAD-BALANCER-SOURCE-IP"] == ("198.51.100.240,tcp:80,198.51.100.240",)
    assert found["KUBE-NODE-PORT-TCP"] == found["KUBE-NODE-PORT-LOCAL-TCP"] == ("30080",)
    assert found["KUBE-HEALTH-CHECK-NODE-PORT"] == ("32000",)
    assert "10.244.1.5,tcp:8080,10.244.1.5" in found["KUBE-LOOP-BACK"]
    assert max(len(name) for name in found) == 31


def test_sets_of_the_virtual_servers_leave_policies_open() -> None:
    found = sets(Cluster())
    assert set(found["KUBE-CLUSTER-IP"]) == {"10.96.0.1,tcp:80", "198.51.100.240,tcp:80"}
    assert found["KUBE-NODE-PORT-TCP"] == ("30080",)
    assert "KUBE-NODE-PORT-LOCAL-TCP" not in found


def test_nothing_to_complete() -> None:
    assert kube_proxy_ipvs.complete_node(NODE_DUMP, CLUSTER) is None
    known = replace(NODE_DUMP, tables=(NAT,), covered=frozenset({"ipset"}))
    assert kube_proxy_ipvs.complete_node(known, CLUSTER) is None


def test_completed_sets_are_those_of_the_node(corpus: Path) -> None:
    """What is made of the Services holds what ipset printed; local endpoints aside, remote ones are harmless."""
    world = decode.decode(snapshot.read([str(corpus / "ipvs-rr-matrix")]))
    for node in world.nodes.values():
        bare = replace(node, sets=(), covered=node.covered - {"ipset"})
        found = kube_proxy_ipvs.complete_node(bare, world.cluster)
        assert found is not None
        made = {s.name: set(s.entries) for s in found[0].sets}
        for real in node.sets:
            if real.name.endswith("LOOP-BACK"):
                # It also holds endpoints that are not ready; no virtual server sends anything there.
                served = {str(r.ip) for server in node.virtual_servers for r in server.real}
                assert {e for e in real.entries if e.split(",")[0] in served} <= made[real.name]
            else:
                assert set(real.entries) == made[real.name], real.name


# ---------------------------------------------------------------- words, and the question


def step(chain: str, target: str, set_name: str = "", table: str = "nat") -> Step:
    matches = (Match("set", (Option("--match-set", (set_name, "dst,dst")),)),) if set_name else ()
    rule = Rule(chain, matches, Target(target), At("x", 1), "-A …")
    return Step("prerouting", table, chain, "-A …", At("x", 1), target, detail=rule)


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (step("KUBE-POSTROUTING", "MASQUERADE", "KUBE-LOOP-BACK"), "an endpoint that dials itself: masquerade"),
        (step("KUBE-SERVICES", "KUBE-MARK-MASQ", "KUBE-6-CLUSTER-IP"), "a ClusterIP and its port: mark for masquerade"),
        (step("KUBE-SERVICES", "KUBE-NODE-PORT"), "NodePort lookup"),
        (step("INPUT", "KUBE-NODE-PORT", table="filter"), "let health checks of Services in"),
        (step("KUBE-IPVS-FILTER", "REJECT", "KUBE-IPVS-IPS", "filter"), "a virtual address, and no port of a Service: refuse"),
        (step("KUBE-SOURCE-RANGES-FIREWALL", "DROP", table="filter"), "not in the source ranges: drop"),
        (step("INPUT", "ACCEPT"), ""),
    ],
)  # fmt: skip
def test_words(of: Step, says: str) -> None:
    assert kube_proxy_ipvs.means(of) == says


def test_a_service_by_name_without_the_objects() -> None:
    world = World({"n": NODE_DUMP}, Cluster())
    flow = dialects.resolve(world, Ask("svc/shop/web", port="30080"))
    assert (flow.packet.dport, flow.kind) == (30080, "nodeport")
    assert any("NodePort 30080 is taken to be that of shop/web" in text for text in flow.assumptions)
    with pytest.raises(NotFound, match="virtual servers carry no names"):
        dialects.resolve(world, Ask("svc/shop/web", port="80"))


def test_a_virtual_address_belongs_to_no_node() -> None:
    flow = dialects.resolve(World({"n": NODE_DUMP}, Cluster()), Ask(f"{VIP}:80"))
    assert flow.kind == "clusterip"
