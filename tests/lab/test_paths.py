"""Single paths, each with real packets and netk8s' answer to the same question."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netk8s import decode, dialects, findings, snapshot
from netk8s.model import Ask
from netk8s.trace import trace

from .cluster import Cluster
from .connections import differs, predicted
from .generate_cluster import Asked
from .topology import ClientSpec, NodeSpec, PodSpec, ServiceSpec, Topology, two_nodes

pytestmark = pytest.mark.lab

ADDRESSES = {"client": "192.168.52.50", "client-far": "203.0.113.7"}


def results(cluster: Cluster, folder: Path, asked: list[Asked]) -> list[tuple[str, str | None]]:
    """(result, source seen) of a connection for each question, all of which netk8s must have told."""
    cluster.snapshot(folder)
    world = decode.decode(snapshot.read([str(folder)]))
    out, wrong = [], []
    for each in asked:
        answer = cluster.connect(each.source, each.ip, each.port, each.protocol)
        out.append((answer.result, answer.seen_src_ip))
        outcomes = predicted(world, each, cluster)
        assert not any(o.verdict == "unknown" for o in outcomes), (each, outcomes)
        if difference := differs(each, [answer], outcomes):
            wrong.append(f"{each}: {difference}")
    assert not wrong, "\n".join(wrong)
    return out


def first_node(topology: Topology, **changes: object) -> Topology:
    """The topology with its first node changed."""
    first: NodeSpec = replace(topology.nodes[0], **changes)  # type: ignore[arg-type]
    return replace(topology, nodes=(first, *topology.nodes[1:]))


@pytest.fixture(scope="module")
def overlay() -> Iterator[Cluster]:
    with Cluster(two_nodes(overlay="vxlan")) as cluster:
        cluster.load_kube_rules("nft")
        yield cluster


@pytest.mark.parametrize("bridge_nf", [True, False])
def test_a_bridge_translates_ipv6_for_its_own_pods_without_forwarding(bridge_nf: bool, tmp_path: Path) -> None:
    """br_nf_pre_routing_finish_ipv6 finds a route in spite of the setting, br_nf_pre_routing_finish does not."""
    off = {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0"}
    with Cluster(first_node(two_nodes(), sysctls=off, bridge_nf=bridge_nf)) as cluster:
        cluster.load_kube_rules("nft")
        asked = [
            Asked(f"pod/default/{pod}", ip, 80)
            for pod in ("nginx-a", "nginx-b") for ip in ("10.96.120.31", "fd00:10:96::31")
        ]  # fmt: skip
        silence = ("timeout", None)
        assert results(cluster, tmp_path, asked) == (
            [silence, ("connected", "fd00:10:244:1::1"), silence, ("connected", "fd00:10:244:1::6")]
            if bridge_nf
            else [silence] * 4
        )


NOT_TO_PODS = "OUTPUT -d 10.244.0.0/16 -j REJECT"
NOT_FAR = "OUTPUT -d 10.244.2.0/24 -j REJECT"
RESET_FAR = "OUTPUT -d 10.244.2.0/24 -p tcp -j REJECT --reject-with tcp-reset"


@pytest.mark.parametrize(
    ("rules", "result"),
    [
        # The node asks from flannel.1's 10.244.1.0, so the rule stops the error to itself as well.
        ((NOT_TO_PODS,), "timeout"),
        ((f"{NOT_TO_PODS} --reject-with icmp-admin-prohibited",), "timeout"),
        ((NOT_FAR,), "refused"),
        ((NOT_FAR, "INPUT -i lo -p icmp -j DROP"), "timeout"),
        ((NOT_FAR, "INPUT -p icmp -m icmp --icmp-type port-unreachable -j DROP"), "timeout"),
        ((NOT_FAR, "INPUT -p icmp -m icmp --icmp-type host-unreachable -j DROP"), "refused"),
        ((NOT_FAR, "INPUT -m conntrack --ctstate RELATED -j DROP"), "timeout"),
        ((NOT_FAR, "INPUT -m conntrack --ctstate INVALID -j DROP"), "refused"),
        ((RESET_FAR,), "refused"),
        ((RESET_FAR, "OUTPUT -d 10.244.1.0/32 -p tcp -j DROP"), "timeout"),
        ((RESET_FAR, "INPUT -m conntrack --ctstate RELATED -j DROP"), "timeout"),
        ((RESET_FAR, "INPUT -m conntrack --ctstate ESTABLISHED -j DROP"), "refused"),
    ],
)
def test_a_process_of_the_node_is_told_of_a_reject_by_lo(
    rules: tuple[str, ...], result: str, tmp_path: Path, overlay: Cluster
) -> None:
    node = overlay.host("k8s-node1")
    lines = "\n".join(f"-A {rule}" for rule in rules)
    node.call("run", ["iptables-nft-restore", "--noflush"], f"*filter\n{lines}\nCOMMIT\n")
    try:
        asked = [Asked("k8s-node1", "10.244.2.5", 80)]
        if RESET_FAR not in rules:
            asked.append(Asked("k8s-node1", "10.244.2.9", 5353, "udp"))
        assert {seen for seen, _ in results(overlay, tmp_path, asked)} == {result}
    finally:
        for rule in rules:
            node.call("run", ["iptables-nft", "-D", *rule.split()])


@pytest.mark.parametrize(
    ("rule", "result"),
    [
        ("-m conntrack --ctstate ESTABLISHED -j DROP", "timeout"),
        ("-m conntrack --ctstate ESTABLISHED -p tcp -j REJECT --reject-with tcp-reset", "refused"),
        ("-m conntrack --ctstate NEW -j LOG", "connected"),
    ],
)
def test_a_connection_needs_its_third_packet_too(rule: str, result: str, tmp_path: Path, overlay: Cluster) -> None:
    node = overlay.host("k8s-node1")
    where = ["FORWARD", "-d", "10.244.2.0/24", *rule.split()]
    node.call("run", ["iptables-nft", "-I", *where])
    try:
        asked = [Asked("pod/default/toolbox", "10.244.2.5", 80)]
        assert [seen for seen, _ in results(overlay, tmp_path, asked)] == [result]
    finally:
        node.call("run", ["iptables-nft", "-D", *where])


@pytest.mark.parametrize("bridge_nf", [True, False])
def test_a_reset_goes_back_by_the_bridge_port_untranslated(bridge_nf: bool, tmp_path: Path) -> None:
    reset = "-p tcp -j REJECT --reject-with tcp-reset"
    topology = two_nodes()
    far = ServiceSpec("far", ("10.96.120.32", "fd00:10:96::32"), 80, 80, ("default/nginx-c",))
    topology = replace(topology, services=(*topology.services, far))
    with Cluster(first_node(topology, bridge_nf=bridge_nf)) as cluster:
        cluster.load_kube_rules("nft")
        for command, network in (("iptables-nft", "10.244.2.0/24"), ("ip6tables-nft", "fd00:10:244:2::/64")):
            cluster.host("k8s-node1").call("run", [command, "-A", "FORWARD", "-d", network, *reset.split()])
        asked = [
            Asked("pod/default/toolbox", ip, 80)
            for ip in ("10.244.2.5", "fd00:10:244:2::5", "10.96.120.32", "fd00:10:96::32")
        ]
        by_service = "timeout" if bridge_nf else "refused"
        found = [result for result, _ in results(cluster, tmp_path, asked)]
        assert found == ["refused", "refused", by_service, by_service]


LARGE = """
import socket, sys, time
ip, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
six = ":" in ip
udp = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
level, discover, mtu = (41, 23, 24) if six else (0, 10, 14)
udp.setsockopt(level, discover, 2)
udp.connect((ip, port))
for _ in range(2):
    try:
        udp.send(b"x" * size)
    except OSError:
        pass
    time.sleep(0.15)
print(udp.getsockopt(level, mtu))
"""
"""Sends datagrams with DF set and prints the path's MTU as the kernel has learnt it by then."""


@pytest.mark.parametrize("rule", ["", "-A OUTPUT -p icmp -j DROP"])
def test_whether_the_sender_hears_that_its_packets_are_too_large(rule: str, tmp_path: Path) -> None:
    with Cluster(two_nodes(overlay="vxlan")) as cluster:
        cluster.load_kube_rules("nft")
        if rule:
            cluster.host("k8s-node1").call("run", ["iptables-nft-restore", "--noflush"], f"*filter\n{rule}\nCOMMIT\n")
        cluster.snapshot(tmp_path)
        world = decode.decode(snapshot.read([str(tmp_path)]))
        for source, ip, port in (
            ("pod/default/toolbox", "10.244.2.9", 5353),
            ("pod/default/toolbox", "10.96.53.53", 53),
            ("client", "192.168.52.201", 30053),
            ("client-far", "192.168.52.201", 30053),
        ):
            learnt = cluster.host(source).call("run", [sys.executable, "-c", LARGE, ip, str(port), "1460"])
            # flannel.1 has 50 bytes less than the devices of pods and clients.
            assert int(learnt) == (1500 if rule else 1450), (source, ip)
            asked = ADDRESSES.get(source, source)
            found = trace(world, dialects.resolve(world, Ask(f"{ip}:{port}", protocol="udp", source=asked)))
            (hop,) = (hop for way in found.ways for hop in way.hops if hop.too_large)
            assert hop.too_large is not None
            assert (hop.node, hop.oif, hop.too_large.size, hop.too_large.mtu) == ("k8s-node1", "flannel.1", 1500, 1450)
            assert bool(hop.too_large.untold) is bool(rule), hop.too_large
            codes = [f.code for f in findings.check(world, found)]
            assert ("NK415" in codes) is bool(rule)


BULK = """
import socket, sys, time
role, ip, port, sends = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "sends"
if role == "server":
    listening = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    listening.settimeout(5)
    sock, _ = listening.accept()
else:
    for _ in range(40):
        try:
            sock = socket.create_connection((ip, port), 2)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
sock.settimeout(1)
got = 0
try:
    if sends:
        sock.sendall(b"x" * 50000)
        sock.shutdown(socket.SHUT_WR)
    while data := sock.recv(65536):
        got += len(data)
    if not sends:
        sock.close()
except OSError:
    pass
print(got)
"""
"""One end of a TCP connection by which the client or the server sends 50,000 bytes; prints how many came."""

NO_ERRORS = (
    ("iptables-nft", "OUTPUT -p icmp -m icmp --icmp-type fragmentation-needed -j DROP"),
    ("ip6tables-nft", "OUTPUT -p ipv6-icmp -m icmp6 --icmpv6-type packet-too-big -j DROP"),
)


def _over_a_narrow_network(node: NodeSpec, number: int, other: int, by: str) -> NodeSpec:
    own = " mtu 1400" if by == "route" else ""
    extra = (
        *(["link set eth1 mtu 1400"] if by == "device" else []),
        f"route replace 10.244.{other}.0/24 via 192.168.60.20{other}{own}",
        f"route replace fd00:10:244:{other}::/64 via fd00:60::20{other}{own}",
    )
    return replace(node, back=(f"192.168.60.20{number}/24", f"fd00:60::20{number}/64"), extra=extra)


@pytest.mark.parametrize(("by", "stopped"), [("device", True), ("route", True), ("route", False)])
def test_whether_large_segments_get_through_there_and_back_in_both_families(
    by: str, stopped: bool, tmp_path: Path
) -> None:
    topology = two_nodes()
    nodes = tuple(_over_a_narrow_network(n, i, 3 - i, by) for i, n in enumerate(topology.nodes, 1))
    bulk = ServiceSpec("bulk", ("10.96.7.1", "fd00:10:96::71"), 8000, 8000, ("default/nginx-c",), node_port=30070)
    with Cluster(replace(topology, nodes=nodes, services=(*topology.services, bulk))) as cluster:
        cluster.load_kube_rules("nft")
        for node in nodes:
            for command, rule in NO_ERRORS if stopped else ():
                cluster.host(node.name).call("run", [command, "-A", *rule.split()])
        cluster.snapshot(tmp_path)
        world = decode.decode(snapshot.read([str(tmp_path)]))
        for source, asked, ip, port, sends in (
            ("pod/default/toolbox", "pod/default/toolbox", "10.96.7.1", 8000, "client"),
            ("pod/default/toolbox", "pod/default/toolbox", "fd00:10:96::71", 8000, "client"),
            ("pod/default/toolbox", "pod/default/toolbox", "fd00:10:96::71", 8000, "server"),
            ("client", "192.168.52.50", "192.168.52.201", 30070, "server"),
            ("client", "fd00:52::50", "fd00:52::201", 30070, "server"),
        ):
            there = sends == "client"
            hosts = {"server": cluster.host("pod/default/nginx-c"), "client": cluster.host(source)}
            for role, host in hosts.items():
                to = ["", "8000"] if role == "server" else [ip, str(port)]
                host.post("run", [sys.executable, "-c", BULK, role, *to, "sends" if role == sends else "takes"])
            got = [int(host.wait()) for host in hosts.values()]
            target = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
            found = trace(world, dialects.resolve(world, Ask(target, source=asked)))
            (way,) = found.ways
            # Answers to the address that a NodePort was masqueraded with take no route to pods.
            wide = by == "route" and source == "client"
            assert max(got) == (0 if stopped and not wide else 50000), (source, ip, sends)
            hops = [h for h in (way.hops if there else way.reply_hops) if h.too_large]
            assert len(hops) == (not wide)
            for hop in hops:
                assert hop.too_large is not None
                assert (hop.node, hop.oif) == ("k8s-node1" if there else "k8s-node2", "eth1")
                assert (hop.too_large.size, hop.too_large.mtu) == (1500, 1400)
                mine = cluster.topology.pod("default/toolbox" if there else "default/nginx-c").ips
                assert str(hop.too_large.sender) in mine
                assert bool(hop.too_large.untold) is stopped
            told = [f.summary for f in findings.check(world, found) if f.code == "NK415"]
            assert bool(told) is stopped
            assert all(("but the route by eth1" in words) is (by == "route") for words in told)


def test_macvlan_modes(tmp_path: Path) -> None:
    """private and vepa keep the pods of one parent apart where the switch does not send a frame back; passthru gives all
    that comes in to the one pod, the node's own packets too."""
    wirings = ("macvlan-private", "macvlan-vepa", "macvlan-passthru")
    nodes = tuple(NodeSpec(f"k8s-node{i}", (f"192.168.52.20{i}/24",), (), wiring=w) for i, w in enumerate(wirings, 1))
    pods = tuple(
        PodSpec(f"{node.wiring[8:]}-{k}", node.name, (f"192.168.52.1{i}{k}",), (("tcp", 80),))
        for i, node in enumerate(nodes, 1) for k in range(1, 2 if node.wiring.endswith("passthru") else 3)
    )  # fmt: skip
    topology = Topology(nodes=nodes, pods=pods, clients=(ClientSpec("client", ("192.168.52.50/24",)),))
    with Cluster(topology) as cluster:
        cluster.load_kube_rules("nft", [4])
        inside = {pod.key: cluster.host(f"pod/{pod.key}").call("run", ["ip", "-j", "-d", "addr"]) for pod in pods}
        asked = [
            Asked(source, pod.ips[0], 80)
            for pod in pods for source in ("client", "k8s-node1", *(f"pod/{p.key}" for p in pods if p is not pod))
        ]  # fmt: skip
        for pod in pods:
            folder = tmp_path / "nodes" / pod.node / "pods" / pod.key.replace("/", "_")
            folder.mkdir(parents=True)
            for name in ("ip-link", "ip-addr"):
                (folder / f"{name}.json").write_text(inside[pod.key])
        seen = dict(zip(asked, results(cluster, tmp_path, asked), strict=True))
        connected = {(each.source, each.ip) for each, (result, _) in seen.items() if result == "connected"}
        for pod in pods:
            assert ("client", pod.ips[0]) in connected
            for other in pods:
                apart = other.node == pod.node
                assert other is pod or ((f"pod/{other.key}", pod.ips[0]) in connected) is not apart


def test_a_macvlan_of_mode_source_hears_those_it_is_told_to_hear(tmp_path: Path) -> None:
    nodes = tuple(
        NodeSpec(f"k8s-node{i}", (f"192.168.52.20{i}/24",), (), wiring=f"macvlan{mode}")
        for i, mode in enumerate(("-source", "", ""), 1)
    )
    pods = tuple(
        PodSpec(name, f"k8s-node{i}", (f"192.168.52.1{i}1",), (("tcp", 80),))
        for i, name in enumerate(("source", "heard", "unheard"), 1)
    )
    clients = (ClientSpec("client", ("192.168.52.50/24",)), ClientSpec("client-b", ("192.168.52.51/24",)))
    with Cluster(Topology(nodes=nodes, pods=pods, clients=clients)) as cluster:
        cluster.load_kube_rules("nft", [4])
        for host, device in (("client", "eth0"), ("k8s-node2", "ens33"), ("pod/default/heard", "eth0")):
            (link,) = json.loads(cluster.host(host).call("run", ["ip", "-j", "link", "show", device]))
            add = f"link set link dev eth0 type macvlan macaddr add {link['address']}"
            cluster.host("pod/default/source").call("ip", [add])
        for client in ("client", "client-b"):
            cluster.connect(client, "192.168.52.202", 22)  # so that a node knows its MAC address
        for pod in pods:
            folder = tmp_path / "nodes" / pod.node / "pods" / pod.key.replace("/", "_")
            folder.mkdir(parents=True)
            inside = cluster.host(f"pod/{pod.key}").call("run", ["ip", "-j", "-d", "addr"])
            for name in ("ip-link", "ip-addr"):
                (folder / f"{name}.json").write_text(inside)
        others = ("client", "client-b", "k8s-node2", "k8s-node3", "pod/default/heard", "pod/default/unheard")
        asked = [Asked(source, "192.168.52.111", 80) for source in others]
        asked += [Asked("pod/default/source", f"192.168.52.1{i}1", 80) for i in (2, 3)]
        asked += [Asked("pod/default/unheard", "192.168.52.121", 80)]
        found = [result for result, _ in results(cluster, tmp_path, asked)]
        heard = ["connected", "timeout"]
        assert [r if r == "connected" else "timeout" for r in found] == [*heard, *heard, *heard, *heard, "connected"]


@pytest.mark.parametrize(
    ("node", "rule", "reached"),
    [
        # A firewall that lets answers in and forgets ICMPv6: nobody finds the node, and the node finds nobody.
        (0, "INPUT -p ipv6-icmp -j DROP", ()),
        (1, "INPUT -p ipv6-icmp -j DROP", ("client",)),
        (1, "OUTPUT -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j DROP", ("client",)),
        (1, "INPUT -p tcp -m tcp --dport 9 -j DROP", ("client", "k8s-node1", "toolbox")),
    ],
)
def test_neighbour_discovery_has_to_pass_the_rules(
    node: int, rule: str, reached: tuple[str, ...], tmp_path: Path
) -> None:
    topology = two_nodes()
    with Cluster(topology) as cluster:
        cluster.host(topology.nodes[node].name).call("run", ["ip6tables-nft", "-A", *rule.split()])
        asked = {
            "client": Asked("client", "fd00:52::201", 9100),
            "k8s-node1": Asked("k8s-node1", "fd00:10:244:2::5", 80),
            "toolbox": Asked("pod/default/toolbox", "fd00:10:244:2::5", 80),
        }
        found = results(cluster, tmp_path, list(asked.values()))
        assert tuple(name for name, (result, _) in zip(asked, found, strict=True) if result == "connected") == reached


@pytest.mark.parametrize("bridge_nf", [True, False])
def test_neighbour_discovery_between_pods_passes_what_br_netfilter_shows(bridge_nf: bool, tmp_path: Path) -> None:
    drop = "-p ipv6-icmp -j DROP"
    pods = Asked("pod/default/toolbox", "fd00:10:244:1::5", 80)
    node, away = Asked("k8s-node1", "fd00:10:244:1::6", 80), Asked("pod/default/nginx-b", "fd00:10:244:2::5", 80)
    with Cluster(first_node(two_nodes(), bridge_nf=bridge_nf)) as cluster:
        on = cluster.host("k8s-node1")
        for number, (table, rule, asked) in enumerate(
            (
                ("filter", f"FORWARD -i cni0 -o cni0 {drop}", pods),
                ("filter", "FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j DROP", pods),
                ("filter", "FORWARD -m physdev --physdev-is-bridged -j DROP", pods),
                ("filter", f"OUTPUT {drop}", pods),
                ("raw", f"PREROUTING {drop}", node),
                ("mangle", f"POSTROUTING {drop}", away),
            )
        ):
            for host in ("k8s-node1", "pod/default/toolbox", "pod/default/nginx-a", "pod/default/nginx-b"):
                cluster.host(host).call("run", ["ip", "-6", "neigh", "flush", "all"])
            on.call("run", ["ip6tables-nft", "-t", table, "-A", *rule.split()])
            ((result, _),) = results(cluster, tmp_path / str(number), [asked])
            stopped = asked is not pods or (bridge_nf and "OUTPUT" not in rule)
            assert result == ("timeout" if stopped else "connected"), rule
            on.call("run", ["ip6tables-nft", "-t", table, "-D", *rule.split()])


@pytest.mark.parametrize(("route", "result"), [("prohibit", "unreachable"), ("blackhole", "timeout"), ("", "timeout")])
def test_a_node_without_forwarding_tells_of_an_ipv6_route_that_leads_nowhere(
    route: str, result: str, tmp_path: Path
) -> None:
    # Without one of its own the pods' network is behind the default route, and ip6_forward drops the packet.
    extra = ("route del fd00:10:244:2::/64", *([f"route add {route} fd00:10:244:2::/64"] if route else []))
    off = {"net.ipv6.conf.all.forwarding": "0"}
    with Cluster(first_node(two_nodes(), sysctls=off, extra=extra)) as cluster:
        asked = [Asked("pod/default/toolbox", "fd00:10:244:2::9", 5353, "udp")]
        assert results(cluster, tmp_path, asked) == [(result, None)]
