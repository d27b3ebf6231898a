"""The words of the command line become one flow, or a refusal that says what could be meant."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from netk8s import decode, snapshot
from netk8s.dialects import _question, complete, resolve
from netk8s.dialects._question.names import near
from netk8s.errors import NotFound, UsageError
from netk8s.model import (
    SCTP,
    TCP,
    UDP,
    Address,
    Ask,
    Cluster,
    ClusterNode,
    Dump,
    Endpoint,
    ExternalName,
    Flow,
    NextHop,
    Node,
    Pod,
    Route,
    ServicePort,
    Snapshot,
    World,
)
from netk8s.trace import trace

A, N = ip_address, ip_network
NODE1, NODE2 = A("192.168.10.5"), A("192.168.10.6")


def port(
    service: str, name: str, number: int, node_port: int | None, protocol: int = TCP, **more: object
) -> ServicePort:
    facts = {"cluster_ips": (A("10.96.0.10"),), **more}
    return ServicePort("default", service, name, protocol, number, str(number), node_port, "NodePort", **facts)  # type: ignore[arg-type]


CLUSTER = Cluster(
    services=(
        port("web", "http", 80, 30080, external_ips=(A("203.0.113.9"),), lb_ips=(A("203.0.113.10"),)),
        port("web", "https", 443, 30443),
        port("one", "", 80, None, cluster_ips=(A("10.96.0.11"),)),
        port("dns", "dns", 53, 30053, UDP, cluster_ips=(A("10.96.0.53"),)),
        port("dns", "dns-tcp", 53, 30053, cluster_ips=(A("10.96.0.53"),)),
        port("headless", "", 80, None, cluster_ips=()),
        port("six", "", 80, None, cluster_ips=(A("10.96.0.12"), A("fd00:96::12"))),
    ),
    endpoints=(Endpoint("default", "web", "http", TCP, A("10.244.1.6"), 8080, "n1", "default/a"),),
    pods=(
        Pod("default", "a", "n1", (A("10.244.1.6"),), ports=(("http", 8080, TCP, None, ""),)),
        Pod(
            "default",
            "b",
            "n2",
            (A("10.244.2.6"), A("fd00:244:2::6")),
            ports=(("x", 1, TCP, None, ""), ("y", 2, UDP, 9002, "")),
        ),
        Pod("other", "a", "n1", (A("10.244.1.9"),)),
        Pod("kube-system", "proxy", "n2", (NODE2,), host_network=True),
        Pod("default", "gone", "n9", (A("10.244.9.9"),)),
        Pod("default", "done", "n1", (A("10.244.1.6"),), phase="Succeeded"),
    ),
    nodes=(
        ClusterNode("n1", (("Hostname", "n1"), ("InternalIP", str(NODE1)))),
        ClusterNode("n2", (("InternalIP", str(NODE2)), ("InternalIP", "fd00:10::6"))),
        ClusterNode("n9", (("InternalIP", "192.168.10.9"),)),
    ),
    covered=frozenset({"services", "endpoints", "pods", "nodes"}),
)
DEFAULT = Route(N("0.0.0.0/0"), "unicast", (NextHop("eth0", A("192.168.10.1")),))


def node(name: str, ip: object) -> Node:
    return Node(
        name, addresses=(Address("eth0", ip, 24, "global"),), routes=(DEFAULT,), covered=frozenset({"addr", "route4"})
    )  # type: ignore[arg-type]


WORLD = World({"n1": node("n1", NODE1), "n2": node("n2", NODE2)}, CLUSTER)


def ask(target: str, number: str | None = None, world: World = WORLD, **words: str) -> Flow:
    return resolve(world, Ask(target, number, **words))


def dialled(flow: Flow) -> tuple[str, int | None, int, str, str | None]:
    return str(flow.packet.dst), flow.packet.dport, flow.packet.protocol, flow.kind, flow.service


# ---------------------------------------------------------------- targets


@pytest.mark.parametrize(
    ("target", "number", "words", "expected"),
    [
        ("svc/web", "30080", {"via": "n2"}, (str(NODE2), 30080, TCP, "nodeport", "default/web")),
        ("svc/web", "80", {}, ("10.96.0.10", 80, TCP, "clusterip", "default/web")),
        ("svc/web", "https", {}, ("10.96.0.10", 443, TCP, "clusterip", "default/web")),
        ("service/default/web", "443", {}, ("10.96.0.10", 443, TCP, "clusterip", "default/web")),
        ("svc/one", None, {}, ("10.96.0.11", 80, TCP, "clusterip", "default/one")),
        ("svc/dns", "53", {"protocol": "udp"}, ("10.96.0.53", 53, UDP, "clusterip", "default/dns")),
        ("svc/dns", "dns-tcp", {}, ("10.96.0.53", 53, TCP, "clusterip", "default/dns")),
        ("svc/dns", "30053", {"protocol": "UDP", "via": "n1"}, (str(NODE1), 30053, UDP, "nodeport", "default/dns")),
        ("svc/six", "80", {"source": "fd00::9"}, ("fd00:96::12", 80, TCP, "clusterip", "default/six")),
        ("10.96.0.10:80", None, {}, ("10.96.0.10", 80, TCP, "clusterip", "default/web")),
        ("10.96.0.10", "80", {}, ("10.96.0.10", 80, TCP, "clusterip", "default/web")),
        ("[fd00:96::12]:80", None, {"source": "fd00::9"}, ("fd00:96::12", 80, TCP, "clusterip", "default/six")),
        ("203.0.113.9:80", None, {}, ("203.0.113.9", 80, TCP, "external-ip", "default/web")),
        ("203.0.113.10:80", None, {}, ("203.0.113.10", 80, TCP, "loadbalancer", "default/web")),
        ("192.168.10.6:30080", None, {}, (str(NODE2), 30080, TCP, "nodeport", "default/web")),
        ("192.168.10.6:22", None, {}, (str(NODE2), 22, TCP, "address", None)),
        ("8.8.8.8:443", None, {"source": "node/n1"}, ("8.8.8.8", 443, TCP, "address", None)),
        ("pod/a", None, {}, ("10.244.1.6", 8080, TCP, "pod", None)),
        ("pod/default/a", "9", {}, ("10.244.1.6", 9, TCP, "pod", None)),
        ("pod/b", "y", {}, ("10.244.2.6", 2, UDP, "pod", None)),
        ("pod/b", "2", {}, ("10.244.2.6", 2, UDP, "pod", None)),
        ("pod/b", "1", {"source": "fd00::9"}, ("fd00:244:2::6", 1, TCP, "pod", None)),
        ("pod/b", "9002", {}, (str(NODE2), 9002, UDP, "hostport", None)),
        ("node/n2", "22", {}, (str(NODE2), 22, TCP, "address", None)),
        ("10.244.1.6:8080", None, {"protocol": "sctp"}, ("10.244.1.6", 8080, SCTP, "pod", None)),
    ],
)
def test_what_is_dialled(target: str, number: str | None, words: dict[str, str], expected: tuple[object, ...]) -> None:
    assert dialled(ask(target, number, **words)) == expected


@pytest.mark.parametrize(
    ("target", "number", "words", "error", "why"),
    [
        ("svc/web", None, {}, UsageError, "several ports"),
        ("svc/web", "81", {}, NotFound, "port 81"),
        ("svc/web", "80", {"protocol": "udp"}, NotFound, "udp port 80 of service default/web"),
        ("svc/webb", "80", {}, NotFound, "svc/default/web"),
        ("svc/other/web", "80", {}, NotFound, "svc/default/web"),
        ("svc/default/web", "80", {"namespace": "other"}, UsageError, "names namespace"),
        ("svc/dns", "53", {}, UsageError, "--protocol"),
        ("svc/headless", "80", {}, NotFound, "headless"),
        ("svc/web", "0", {}, UsageError, "between 1 and 65535"),
        ("svc/web", "65536", {}, UsageError, "between 1 and 65535"),
        ("svc/web", "80", {"protocol": "icmp"}, UsageError, "protocol"),
        ("pod/c", "80", {}, NotFound, "pod/default"),
        ("pod/b", None, {}, UsageError, "--port"),
        ("node/n7", "80", {}, NotFound, "node/n"),
        ("node/n1", None, {}, UsageError, "--port"),
        ("10.0.0.1", None, {}, UsageError, "port"),
        ("10.0.0.1:80", "81", {}, UsageError, "another"),
        ("10.0.0.1:99999", None, {}, UsageError, "between 1 and 65535"),
        ("web", "80", {}, UsageError, "svc/NAME"),
        ("deployment/web", "80", {}, UsageError, "ingress/NAME, gateway/NAME, httproute/NAME or dns"),
        ("svc/web", "30080", {"via": "n1", "node": "n2"}, UsageError, "--via n1 and --node n2 name two nodes"),
        ("[fd00::1", "80", {}, UsageError, "IPv6"),
        ("svc/web", "30080", {"via": "n7"}, NotFound, "n7"),
        ("svc/web", "80", {"source": "nonsense"}, UsageError, "--from"),
        ("svc/web", "80", {"source": "pod/nobody"}, NotFound, "pod"),
        ("svc/web", "80", {"source": "node/n9"}, NotFound, "no dump of node n9"),
        ("svc/web", "80", {"source": "pod/gone"}, NotFound, "n9"),
        ("10.96.0.10:80", None, {"source": "fd00::1"}, UsageError, "IPv6"),
        ("[fd00:96::12]:80", None, {"source": "pod/a"}, UsageError, "IPv6"),
    ],
)
def test_what_cannot_be_asked(
    target: str, number: str | None, words: dict[str, str], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        ask(target, number, **words)


# ---------------------------------------------------------------- who asks, and from where


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"source": "client"}, ("outside", "n1", "198.51.100.10", None)),
        ({"source": "client", "via": "n2"}, ("outside", "n2", "198.51.100.10", None)),
        ({"source": "8.8.8.8"}, ("outside", "n1", "8.8.8.8", None)),
        ({"source": "pod/b"}, ("pod", "n2", "10.244.2.6", "default/b")),
        ({"source": "10.244.2.6"}, ("pod", "n2", "10.244.2.6", "default/b")),
        ({"source": "pod/other/a"}, ("pod", "n1", "10.244.1.9", "other/a")),
        ({"source": "a", "namespace": "other"}, None),
        ({"source": "pod/a", "namespace": "other"}, ("pod", "n1", "10.244.1.9", "other/a")),
        ({"source": "node/n2"}, ("node", "n2", "0.0.0.0", None)),  # noqa: S104 - a source that connect() chooses
        ({"source": "192.168.10.6"}, ("node", "n2", "192.168.10.6", None)),
        ({"source": "pod/kube-system/proxy"}, ("node", "n2", "0.0.0.0", "kube-system/proxy")),  # noqa: S104
        ({"source": "127.0.0.1", "node": "n2"}, ("node", "n2", "127.0.0.1", None)),
    ],
)
def test_who_asks(words: dict[str, str], expected: tuple[object, ...] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            ask("10.96.0.10:80", None, **words)
        return
    flow = ask("10.96.0.10:80", None, **words)
    assert (flow.origin, flow.node, str(flow.packet.src), flow.pod) == expected


def test_nobody_says_who_asks() -> None:
    outside = ask("svc/web", "30080")
    assert (outside.origin, outside.node) == ("outside", "n1")
    assert any("--via" in note for note in outside.assumptions)
    assert any("198.51.100.10" in note for note in outside.assumptions)
    inside = ask("svc/web", "80")
    # A pod that is no endpoint of the Service asks: pod a is one, and what is over or elsewhere cannot.
    assert (inside.origin, inside.pod) == ("pod", "default/b")
    assert any("pod/default/b" in note for note in inside.assumptions)


def test_a_clusterip_from_outside_has_to_be_brought_to_a_node() -> None:
    assert ask("10.96.0.10:80", source="client").routed is False
    assert ask("10.96.0.10:80", source="client", via="n1").routed is True
    assert ask("svc/web", "30080", source="client").routed is True
    assert ask("10.96.0.10:80", source="node/n1").routed is True


def test_a_client_of_a_network_without_default_route_is_a_free_neighbour() -> None:
    lan = Route(N("192.168.10.0/24"), "unicast", (NextHop("eth0"),))
    alone = replace(WORLD, nodes={name: replace(n, routes=(lan,)) for name, n in WORLD.nodes.items()})
    flow = ask("svc/web", "30080", alone)
    assert flow.packet.src in N("192.168.10.0/24")
    assert flow.packet.src not in (NODE1, NODE2)
    assert any(str(flow.packet.src) in note for note in flow.assumptions)


def test_packets_have_the_flags_of_their_protocol() -> None:
    assert ask("svc/web", "80").packet.tcp_flags == {"SYN"}
    assert ask("svc/dns", "53", protocol="udp").packet.tcp_flags == frozenset()
    assert ask("svc/web", "80").packet.sport is None


# ---------------------------------------------------------------- rules and nothing else

RULES = b"""\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment default/web:http -m tcp --dport 30080 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ
COMMIT
"""
ALONE = decode.decode(Snapshot((Dump("x", RULES),)))


def test_a_service_by_its_comments() -> None:
    assert dialled(ask("svc/web", "80", ALONE)) == ("10.96.0.10", 80, TCP, "clusterip", "default/web")
    assert dialled(ask("svc/default/web", "http", ALONE))[:2] == ("10.96.0.10", 80)
    nodeport = ask("svc/web", "30080", ALONE)
    assert dialled(nodeport) == ("192.0.2.1", 30080, TCP, "nodeport", "default/web")
    assert dict(nodeport.stand_ins) == {A("192.0.2.1"): "node/node", A("198.51.100.10"): "client"}
    assert any("192.0.2.1 stands for" in note for note in nodeport.assumptions)
    assert dialled(ask("10.96.0.10:80", None, ALONE)) == ("10.96.0.10", 80, TCP, "clusterip", "default/web")
    with pytest.raises(NotFound, match="svc/default/web"):
        ask("svc/wob", "80", ALONE)


def test_a_pod_that_no_dump_names_stands_in_the_pods_network() -> None:
    flow = ask("svc/web", "80", ALONE)
    assert (flow.origin, flow.node) == ("pod", "node")
    assert flow.packet.src in N("10.244.0.0/16")
    assert (flow.packet.src, "pod") in flow.stand_ins


def test_a_service_of_a_large_dump_by_its_hash() -> None:
    """Without comments and without the API the chain's name still tells an unnamed port."""
    text = RULES.replace(b'-m comment --comment "default/web:http cluster IP" ', b"")
    text = text.replace(b"KUBE-SVC-AAAAAAAAAAAAAAAA", b"KUBE-SVC-2CMXP7HKUVJN7L6M")
    flow = ask("svc/nginx", "80", decode.decode(Snapshot((Dump("x", text),))))
    assert dialled(flow)[:4] == ("10.96.0.10", 80, TCP, "clusterip")


def test_objects_without_any_node_cannot_be_asked() -> None:
    with pytest.raises((UsageError, NotFound)):
        ask("svc/web", "30080", World({}, CLUSTER))


def test_stand_ins_are_nobody_s_addresses() -> None:
    for family in (4, 6):
        for address in (_question.CLIENT[family], _question.NODE[family], _question.POD[family]):
            assert address.is_private or not address.is_global


# ---------------------------------------------------------------- the source port


@pytest.mark.parametrize(
    ("words", "source", "sport"),
    [
        ({"source": "192.0.2.9:4000"}, "192.0.2.9", 4000),
        ({"source": "192.0.2.9", "sport": 4000}, "192.0.2.9", 4000),
        ({"source": "192.0.2.9:4000", "sport": 4000}, "192.0.2.9", 4000),
        ({"source": "192.0.2.9"}, "192.0.2.9", None),
        ({"source": "client", "sport": 7}, "client", 7),
    ],
)
def test_the_source_port(words: dict[str, object], source: str, sport: int | None) -> None:
    there = World({"n": Node("n", covered=frozenset({"rules4"}))}, Cluster())
    flow = resolve(there, Ask("10.96.0.10:80", via="n", **words))  # type: ignore[arg-type]
    assert (flow.source, flow.packet.sport) == (source, sport)


def test_the_source_port_of_an_ipv6_sender() -> None:
    there = World({"n": Node("n", covered=frozenset({"rules6"}))}, Cluster())
    for source, sport in (("[2001:db8::9]:4000", 4000), ("2001:db8::9", None)):
        flow = resolve(there, Ask("[fd00::a]:80", via="n", source=source))
        assert (str(flow.packet.src), flow.packet.sport) == ("2001:db8::9", sport)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"source": "192.0.2.9:4000", "sport": 5}, "names a port and --sport names another"),
        ({"source": "192.0.2.9:http"}, "expected IP:PORT"),
        ({"source": "192.0.2.9:70000"}, "between 1 and 65535"),
    ],
)
def test_a_source_port_that_is_none(words: dict[str, object], says: str) -> None:
    there = World({"n": Node("n", covered=frozenset({"rules4"}))}, Cluster())
    with pytest.raises(UsageError, match=says):
        resolve(there, Ask("10.96.0.10:80", via="n", **words))  # type: ignore[arg-type]


# ---------------------------------------------------------------- entries beside ClusterIP and NodePort

HOSTED = replace(
    CLUSTER,
    services=(
        *CLUSTER.services,
        port("local", "", 80, 30082, health_check_node_port=32001, cluster_ips=(A("10.96.0.13"),)),
        port("shared", "", 8081, None, external_ips=(NODE1,), cluster_ips=(A("10.96.0.14"),)),
    ),
    pods=(
        *CLUSTER.pods,
        Pod("default", "open", "n2", (A("10.244.2.8"),), ports=(("", 8080, TCP, 8080, ""), ("", 81, TCP, 9001, ""))),
        Pod("default", "bound", "n2", (A("10.244.2.9"),), ports=(("", 82, TCP, 9003, str(NODE2)),)),
        Pod("default", "host", "n2", (NODE2,), host_network=True, ports=(("", 9100, TCP, 9100, ""),)),
    ),
    external_names=(
        ExternalName("default", "away", "db.example.net", (("", TCP, 5432),)),
        ExternalName("default", "bare", "db.example.net"),
    ),
)
ENTRIES = replace(WORLD, cluster=HOSTED)


@pytest.mark.parametrize(
    ("target", "number", "words", "expected"),
    [
        ("svc/local", "32001", {"via": "n2"}, (str(NODE2), 32001, TCP, "healthcheck", "default/local")),
        ("192.168.10.5:32001", None, {}, (str(NODE1), 32001, TCP, "healthcheck", "default/local")),
        # An address that is a node's own and an external IP: the port decides.
        ("192.168.10.5:8081", None, {}, (str(NODE1), 8081, TCP, "external-ip", "default/shared")),
        ("192.168.10.5:30082", None, {}, (str(NODE1), 30082, TCP, "nodeport", "default/local")),
        ("192.168.10.5:22", None, {}, (str(NODE1), 22, TCP, "address", None)),
        # A NodePort is one protocol's.
        ("192.168.10.6:30082", None, {"protocol": "udp"}, (str(NODE2), 30082, UDP, "address", None)),
        ("192.168.10.6:9001", None, {}, (str(NODE2), 9001, TCP, "hostport", None)),
        ("192.168.10.5:9001", None, {}, (str(NODE1), 9001, TCP, "address", None)),
        ("pod/open", "9001", {}, (str(NODE2), 9001, TCP, "hostport", None)),
        ("pod/bound", "9003", {}, (str(NODE2), 9003, TCP, "hostport", None)),
        ("pod/host", "9100", {}, (str(NODE2), 9100, TCP, "address", None)),
        ("svc/away", None, {}, ("203.0.113.200", 5432, TCP, "address", None)),
        ("svc/away", "6432", {}, ("203.0.113.200", 6432, TCP, "address", None)),
        ("svc/away", None, {"family": "6", "source": "fd00::9"}, ("2001:db8:e::200", 5432, TCP, "address", None)),
        ("svc/six", "80", {"family": "6", "source": "client"}, ("fd00:96::12", 80, TCP, "clusterip", "default/six")),
        ("svc/web", "30080", {"family": "6", "via": "n2"}, ("fd00:10::6", 30080, TCP, "nodeport", "default/web")),
    ],
)
def test_other_entries(target: str, number: str | None, words: dict[str, str], expected: tuple[object, ...]) -> None:
    assert dialled(ask(target, number, ENTRIES, **words)) == expected


@pytest.mark.parametrize(
    ("target", "number", "words", "error", "why"),
    [
        ("pod/open", "8080", {}, UsageError, "hostPort"),
        ("svc/bare", None, {}, UsageError, "db.example.net"),
        ("svc/web", "30080", {"family": "6", "via": "n1"}, NotFound, "no IPv6 address"),
        ("svc/one", "80", {"family": "6"}, NotFound, "no IPv6 address"),
        ("10.96.0.10:80", None, {"family": "6"}, UsageError, "--family"),
        ("pod/a", None, {"family": "6"}, NotFound, "no IPv6 address"),
    ],
)
def test_entries_that_cannot_be_asked(
    target: str, number: str | None, words: dict[str, str], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        ask(target, number, ENTRIES, **words)


def test_an_outside_packet_reaches_a_host_network_pod_at_its_node() -> None:
    flow = ask("pod/host", "9100", ENTRIES)
    assert (flow.origin, flow.node, flow.routed) == ("outside", "n2", True)


def test_a_name_elsewhere_is_an_address_that_stands_for_it() -> None:
    flow = ask("svc/away", None, ENTRIES)
    assert (flow.packet.dst, "db.example.net") in flow.stand_ins
    assert any("CNAME" in note for note in flow.assumptions)


@pytest.mark.parametrize("kinds", [("cluster", "nodes"), ("nodes",)], ids=["by objects", "by rules"])
@pytest.mark.parametrize(
    ("entry", "seen"),
    [("k8s-master", "fd00:52::200"), ("k8s-node1", "fd00:10:244:1::1"), ("k8s-node2", "fd00:52::202")],
)
def test_a_node_port_of_ipv6_alone_is_dialled_in_ipv6(
    corpus: Path, kinds: tuple[str, ...], entry: str, seen: str
) -> None:
    case = corpus / "iptables-nft-dual-stack"
    folders = [case] if "cluster" in kinds else [case / "nodes"]
    world = complete(decode.decode(snapshot.read([str(folder) for folder in folders])))
    flow = resolve(world, Ask("svc/six-only", "30066", via=entry))
    recorded = [json.loads(line) for line in (case / "observed.jsonl").read_text().splitlines()]
    (fact,) = [r for r in recorded if r["id"] == f"six-only-v6--nodeport--client-to-{entry}"]
    assert str(flow.packet.dst) == fact["dst_ip"]
    (outcome,) = trace(world, flow).outcomes
    assert outcome.verdict == "delivered"
    assert [seen] == [o["seen_src_ip"] for o in fact["outcomes"]] == [str(outcome.source)]


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("default/nginx", ["default/kubernetes", "prod/nginx", "default/ngnix"], ["prod/nginx", "default/ngnix"]),
        ("default/web", ["default/kubernetes", "a-very-long-namespace/web-1"], ["a-very-long-namespace/web-1"]),
        ("node7", ["node-7", "master"], ["node-7"]),
        ("zzz", ["a", "b"], ["a", "b"]),
        ("a/x", [f"{n}/x" for n in range(9)], [f"{n}/x" for n in range(5)]),
        ("x", [], []),
    ],
)
def test_the_nearest_names(name: str, names: list[str], expected: list[str]) -> None:
    assert near(name, names) == expected


def test_the_nearest_of_many_names() -> None:
    many = [f"team-{n % 50:02}/app-{n:05}" for n in range(20_000)]
    assert near("team-38/app-05438", many)[0] == "team-38/app-05438"
    assert near("team-12/app-05438", many)[0] == "team-38/app-05438"
    assert "team-38/app-05438" in near("team-38/app-5438", many)
    assert "web/checkout" in near("web/chekout", [*many, "web/checkout"])
    assert len(near("zzz", many)) == 5
