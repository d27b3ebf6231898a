"""How pods hang on their nodes, concluded from what the nodes have. What the kernel does with them is tested in the lab."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netk8s.decode import decode
from netk8s.kernel import attachment
from netk8s.kernel.attachment import Attachment, Attachments
from netk8s.kernel.netns import Netns
from netk8s.model import (
    Address,
    Cluster,
    Dump,
    Endpoint,
    FdbEntry,
    Ipvlan,
    Link,
    Neighbour,
    NextHop,
    Node,
    Pod,
    Route,
    Snapshot,
)

A = ip_address
COVERED = frozenset({"link", "addr", "route4", "neighbour"})
POD = A("10.1.0.7")
ETH0 = Link("eth0", 2, mac="02:00:00:00:00:01")
LINK_NET = Route(ip_network("10.1.0.0/16"), "unicast", (NextHop("eth0"),))
ADDRESS = Address("eth0", A("10.1.0.1"), 16, "global")


def node(name: str = "n", *links: Link, **facts: object) -> Node:
    known: dict[str, object] = {"routes": (LINK_NET,), "addresses": (ADDRESS,), "covered": COVERED, **facts}
    return Node(name, links=links or (ETH0,), **known)  # type: ignore[arg-type]


def found(*nodes: Node, pods: tuple[Pod, ...] = (), endpoints: tuple[Endpoint, ...] = (), ip: str = "") -> Attachment:
    mine = pods or (Pod("d", "web", "n", (POD,)), Pod("d", "far", "m", (A("10.1.1.9"),)))
    netns = {each.name: Netns(each) for each in nodes}
    return Attachments.of_cluster(netns, Cluster(pods=mine, endpoints=endpoints)).of(netns["n"], A(ip) if ip else POD)


def test_a_pod_behind_a_bridge_or_a_device_of_its_own() -> None:
    bridge, port = Link("cni0", 5, "bridge"), Link("veth6", 6, "veth", master="cni0")
    hung = found(
        node("n", ETH0, bridge, port, routes=(Route(ip_network("10.1.0.0/24"), "unicast", (NextHop("cni0"),)),))
    )
    assert (hung.kind, hung.dev, hung.port, hung.shared) == ("bridge", "cni0", "veth6", False)
    own = Route(ip_network("10.1.0.7/32"), "unicast", (NextHop("cali1"),))
    hung = found(node("n", ETH0, Link("cali1", 7, "veth"), routes=(own,)))
    assert (hung.kind, hung.dev) == ("routed", "cali1")


def test_without_routes_or_with_none_to_the_pod_it_is_not_known() -> None:
    assert "no dump has the IPv4 routes" in found(node(covered=frozenset({"link"}))).why
    hung = found(node(routes=()))
    assert (hung.kind, hung.dev) == ("", None)
    assert "no route to its pod" in hung.why


@pytest.mark.parametrize(
    ("mac", "kind"), [("02:00:00:00:00:01", attachment.IPVLAN_L2), ("02:00:00:00:00:77", attachment.MACVLAN)]
)
def test_the_mac_address_that_answers_for_the_pod_tells_macvlan_from_ipvlan(mac: str, kind: str) -> None:
    other = node("m", Link("eth0", 2, mac="02:00:00:00:00:02"), neighbours=(Neighbour(POD, "eth0", mac, ("STALE",)),))
    hung = found(node(), other)
    assert (hung.kind, hung.dev, hung.shared, hung.doubts) == (kind, "eth0", True, ())


def test_an_address_that_no_pod_is_listed_with_is_concluded_alike() -> None:
    neighbour = Neighbour(A("10.1.0.99"), "eth0", "02:00:00:00:00:77", ("STALE",))
    hung = found(node(), node("m", Link("eth0", 2, mac="02:00:00:00:00:02"), neighbours=(neighbour,)), ip="10.1.0.99")
    assert (hung.kind, hung.dev) == (attachment.MACVLAN, "eth0")


def test_a_parent_takes_in_the_mac_addresses_of_its_macvlan_devices_not_those_of_groups() -> None:
    own = FdbEntry("02:00:00:00:00:77", "eth0", None, None, ("self", "permanent"))
    group = FdbEntry("33:33:00:00:00:01", "eth0", None, None, ("self", "permanent"))
    assert found(node(fdb=(group, own))).kind == attachment.MACVLAN
    assert found(node(fdb=(group,))).kind == attachment.LAYER2


def test_nobody_answering_for_pods_is_ipvlan_of_layer_3_with_doubts() -> None:
    other = node("m", neighbours=(Neighbour(POD, "eth0", None, ("FAILED",)),))
    hung = found(node(), other)
    assert (hung.kind, hung.doubts) == (attachment.IPVLAN_L3, (attachment.IPVLAN_L3S, attachment.LAYER2))


def test_where_nothing_tells_layer_2_is_taken_and_doubted() -> None:
    hung = found(node())
    assert (hung.kind, hung.doubts) == (attachment.LAYER2, (attachment.IPVLAN_L3, attachment.IPVLAN_L3S))
    assert "is in the subnet of eth0" in attachment.told("n", hung)
    assert attachment.doubt("n", hung, attachment.IPVLAN_L3).default is False
    assert attachment.apart("n", hung).default is True


def test_another_device_that_pods_may_hang_on_leaves_it_open() -> None:
    bridge, port = Link("br0", 5, "bridge"), Link("veth6", 6, "veth", master="br0")
    hung = found(node("n", ETH0, bridge, port))
    assert (hung.kind, hung.dev) == ("", None)
    assert "it may hang on br0 instead" in hung.why
    assert "no dump has its devices" in found(node(covered=COVERED - {"link"})).why


def test_a_pod_behind_a_gateway_that_other_nodes_send_here_is_ipvlan_of_layer_3() -> None:
    gateway = (Route(ip_network("0.0.0.0/0"), "unicast", (NextHop("eth0", A("10.9.0.254")),)),)
    address = (Address("eth0", A("10.9.0.1"), 24, "global"),)
    other = node("m", routes=(Route(ip_network("10.1.0.0/24"), "unicast", (NextHop("eth0", A("10.9.0.1")),)),))
    hung = found(node(routes=gateway, addresses=address), other)
    assert (hung.kind, hung.doubts) == (attachment.IPVLAN_L3, (attachment.IPVLAN_L3S,))
    hung = found(node(routes=gateway, addresses=address))
    assert (hung.kind, hung.dev) == ("", None)
    assert "no other node has a route to it" in hung.why


def connections(line: str) -> tuple[object, ...]:
    world = decode(Snapshot((Dump("conntrack.txt", line.encode()),)))
    (one,) = world.nodes.values()
    return one.conntrack


def test_connections_that_the_node_saw_tell_l3s_from_l3() -> None:
    other = node("m", neighbours=(Neighbour(POD, "eth0", None, ("FAILED",)),))
    seen = "tcp 6 100 ESTABLISHED src=10.1.1.9 dst=10.1.0.7 sport=4000 dport=80 src=10.1.0.7 dst=10.1.1.9 sport=80 dport=4000 [ASSURED]\n"
    hung = found(node(conntrack=connections(seen)), other)
    assert (hung.kind, hung.doubts) == (attachment.IPVLAN_L3S, (attachment.LAYER2,))
    answer = "tcp 6 100 SYN_SENT src=10.1.0.7 dst=10.1.1.9 sport=80 dport=4000 [UNREPLIED] src=10.1.1.9 dst=10.1.0.7 sport=4000 dport=80\n"
    serves = Endpoint("d", "web", "", 6, POD, 80)
    hung = found(node(conntrack=connections(answer)), other, endpoints=(serves,))
    assert (hung.kind, hung.doubts) == (attachment.IPVLAN_L3, (attachment.LAYER2,))


def inside(link: Link) -> dict[str, Node]:
    return {"d/web": Node("d/web", links=(link,), addresses=(Address("eth0", POD, 16, "global"),), covered=COVERED)}


@pytest.mark.parametrize(
    ("link", "kind", "apart"),
    [
        (Link("eth0", 9, "macvlan", peer_index=2, mode="bridge"), attachment.MACVLAN, False),
        (Link("eth0", 9, "macvlan", peer_index=2, mode="private"), attachment.MACVLAN, True),
        (Link("eth0", 9, "ipvlan", peer_index=2, mode="l2", detail=Ipvlan()), attachment.IPVLAN_L2, False),
        (Link("eth0", 9, "ipvlan", peer_index=2, mode="l3", detail=Ipvlan(private=True)), attachment.IPVLAN_L3, True),
        (Link("eth0", 9, "ipvlan", peer_index=2, mode="l3s", detail=Ipvlan(vepa=True)), attachment.IPVLAN_L3S, True),
    ],
)
def test_a_dump_taken_inside_the_pod_proves_it(link: Link, kind: str, apart: bool) -> None:
    hung = found(node(pods=inside(link)))
    assert (hung.kind, hung.dev, hung.proven, hung.apart) == (kind, "eth0", True, apart)


def test_another_pod_s_dump_is_taken_to_speak_for_its_like() -> None:
    pods = (Pod("d", "web", "n", (POD,)), Pod("d", "two", "n", (A("10.1.0.8"),)))
    hung = found(
        node(pods=inside(Link("eth0", 9, "ipvlan", peer_index=2, mode="l3", detail=Ipvlan()))), pods=pods, ip="10.1.0.8"
    )
    assert (hung.kind, hung.proven) == (attachment.IPVLAN_L3, False)
    assert "pod d/web hangs so" in hung.because
