"""kube-proxy's own flow tables, asked of netk8s (README.md says where they come from)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from netk8s.decode import iptables_save, nft_text
from netk8s.model import (
    SCTP,
    TCP,
    UDP,
    Addr,
    Address,
    Cluster,
    ClusterNode,
    Dump,
    FdbEntry,
    Flow,
    Link,
    Neighbour,
    NextHop,
    NftTable,
    Node,
    Packet,
    Pod,
    Route,
    Sysctl,
    Table,
    Way,
    World,
)
from netk8s.trace import trace

HERE = Path(__file__).parent
A, N = ip_address, ip_network
NODE = "test-node"
OWN = ("192.168.0.2/24", "192.168.1.2/24", "192.168.99.11/24", "2001:db8::1/64", "2001:db8:1::2/64")
LOOPBACK = ("127.0.0.1/8", "::1/128")
BRIDGE = ("10.255.255.254/8", "fd00:10:ffff::1/32")
PODS = (N("10.0.0.0/8"), N("fd00:10::/32"))
COVERED = frozenset(
    [
        "rules4",
        "rules6",
        "nft",
        "link",
        "addr",
        "route4",
        "route6",
        "rule4",
        "rule6",
        "neigh",
        "fdb",
        "sysctl",
        "socket",
    ]  # every dump there is
)
SETTINGS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.all.route_localnet": "1",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A packet, and what kube-proxy's test says of it."""

    kind: str
    test: str
    ruleset: str
    source: Addr
    destination: Addr
    protocol: int
    port: int
    gets: str | frozenset[str]
    masquerade: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.test}: {self.source} to {self.destination}:{self.port}/{self.protocol}"


def rows(kind: str) -> list[Row]:
    tables = tomllib.loads((HERE / f"kube_proxy_{kind}.toml").read_text())["table"]
    return [
        Row(
            kind,
            table["test"],
            table["ruleset"],
            A(row["from"]),
            A(row["to"]),
            {"tcp": TCP, "udp": UDP, "sctp": SCTP}[row["protocol"]],
            row["port"],
            row["gets"] if isinstance(row["gets"], str) else frozenset(row["gets"]),
            row.get("masquerade", False),
        )
        for table in tables
        for row in table["rows"]
    ]


ROWS = [*rows("iptables"), *rows("nftables")]


def is_pod(address: Addr) -> bool:
    return any(address in network for network in PODS if network.version == address.version)


def endpoints() -> dict[Addr, str]:
    """Every pod address of the tables, with the bridge port that it is behind."""
    said = {
        A(place.rpartition(":")[0].strip("[]")) for row in ROWS if not isinstance(row.gets, str) for place in row.gets
    }
    said |= {row.source for row in ROWS if is_pod(row.source)}
    return {address: f"veth{i}" for i, address in enumerate(sorted(said, key=lambda a: (a.version, int(a))))}


@cache
def world(ruleset: str, kind: str) -> World:
    """One node that has every pod behind its bridge, so that only kube-proxy's rules tell them apart."""
    dump = Dump(ruleset, (HERE / "rulesets" / f"{ruleset}.txt").read_bytes())
    decoder = iptables_save if kind == "iptables" else nft_text
    facts = list(decoder.decode(dump))
    pods = endpoints()
    macs = {address: f"02:00:00:00:00:{i:02x}" for i, address in enumerate(pods)}
    places = [
        *(("lo", text) for text in LOOPBACK),
        *(("eth0", text) for text in OWN),
        *(("cni0", text) for text in BRIDGE),
    ]
    split = [(dev, A(text.partition("/")[0]), int(text.partition("/")[2])) for dev, text in places]
    routes = [
        *(Route(N(f"{a}/{a.max_prefixlen}"), "local", (NextHop(dev),), "local", a) for dev, a, _ in split),
        *(
            Route(N(f"{a}/{bits}", strict=False), "unicast", (NextHop(dev),), prefsrc=a if a.version == 4 else None)
            for dev, a, bits in split
            if dev != "lo"
        ),
        Route(N("127.0.0.0/8"), "local", (NextHop("lo"),), "local", A("127.0.0.1")),
        Route(N("0.0.0.0/0"), "unicast", (NextHop("eth0", A("192.168.0.1")),)),
        Route(N("::/0"), "unicast", (NextHop("eth0", A("2001:db8::fffe")),)),
    ]
    index = {"lo": 1, "eth0": 2, "cni0": 3}
    node = Node(
        NODE,
        tuple(fact for fact in facts if isinstance(fact, Table)),
        nft=tuple(fact for fact in facts if isinstance(fact, NftTable)),
        links=(
            Link("lo", 1),
            Link("eth0", 2),
            Link("cni0", 3, "bridge"),
            *(Link(dev, 10 + i, "veth", master="cni0", hairpin=True) for i, dev in enumerate(pods.values())),
        ),
        addresses=tuple(
            Address(dev, a, bits, "host" if dev == "lo" else "global", index=index[dev]) for dev, a, bits in split
        ),
        routes=tuple(routes),
        neighbours=tuple(Neighbour(a, "cni0", mac, ("REACHABLE",)) for a, mac in macs.items()),
        fdb=tuple(FdbEntry(mac, pods[a]) for a, mac in macs.items()),
        sysctls={key: Sysctl(key, value) for key, value in SETTINGS.items()},
        covered=COVERED,
    )
    cluster = Cluster(
        pods=tuple(Pod("flows", dev, NODE, (a,)) for a, dev in pods.items()),
        nodes=(ClusterNode(NODE, (("InternalIP", "192.168.0.2"),), PODS),),
        covered=frozenset({"pods", "nodes"}),
    )
    return World({NODE: node}, cluster)


def origin(row: Row) -> str:
    own = {A(text.partition("/")[0]) for text in (*OWN, *LOOPBACK)}
    return "node" if row.source in own else "pod" if is_pod(row.source) else "outside"


def shown(address: Addr, port: int | None) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def last_rule(way: Way) -> str:
    """What the last rule that matched did: REJECT, DROP, ACCEPT, …; steps of routing and delivery left out."""
    actions = [step.action for hop in way.hops for step in hop.steps if step.rule is not None]
    return actions[-1].split()[0].upper() if actions else ""


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_packet_gets_what_kube_proxy_means_it_to_get(row: Row) -> None:
    pod = f"flows/{endpoints()[row.source]}" if origin(row) == "pod" else None
    packet = Packet(row.protocol, row.source, row.destination, 40000, row.port)
    if row.protocol != TCP:
        packet = packet.replace(tcp_flags=frozenset())
    found = trace(world(row.ruleset, row.kind), Flow("x", "x", origin(row), NODE, packet, pod=pod))
    verdicts = {way.verdict for way in found.ways}
    last = {last_rule(way) for way in found.ways}
    match row.gets:
        case frozenset():
            assert {shown(w.reached.ip, w.reached.port) for w in found.ways if w.reached} == row.gets
            assert verdicts == {"delivered"}
        case "REJECT":
            assert (verdicts, last) == ({"refused"}, {"REJECT"})
        case "DROP":
            assert (verdicts, last) == ({"dropped"}, {"DROP"})
        case _:
            assert row.gets in ("ACCEPT", "")
            assert {(way.packet.dst, way.packet.dport) for way in found.ways} == {(row.destination, row.port)}
            assert not last & {"REJECT", "DROP"}
            assert ("ACCEPT" in last) == (row.gets == "ACCEPT")
    assert {bool(way.rewrites) for way in found.ways} == {row.masquerade}
