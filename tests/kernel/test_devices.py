"""Trees of devices, what pods hang on, and what that means. What the kernel does is tested in the lab."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from netk8s.kernel.attachment import Attachments
from netk8s.kernel.devices import devices
from netk8s.kernel.netns import Netns
from netk8s.model import (
    Address,
    Cluster,
    Device,
    FdbEntry,
    Hanging,
    Ipvlan,
    Link,
    Neighbour,
    NextHop,
    Node,
    NodeDevices,
    Pod,
    PortVlan,
    Route,
    Sysctl,
    Tunnel,
    Vlan,
)

A = ip_address
COVERED = frozenset({"link", "addr", "route4", "sysctl"})


def found(
    *links: Link,
    pods: tuple[Pod, ...] = (),
    inside: dict[str, Node] | None = None,
    named: dict[str, str] | None = None,
    covered: frozenset[str] = COVERED,
    **facts: tuple[object, ...] | dict[str, Sysctl],
) -> NodeDevices:
    node = Node("n", links=links, pods=inside or {}, covered=covered, **facts)  # type: ignore[arg-type]
    netns = Netns(node)
    attached = Attachments.of_cluster({"n": netns}, Cluster(pods=pods))
    return devices(netns, pods, named or {}, attached, (A("10.96.0.1"),))


def shape(device: Device) -> object:
    return (device.link.name, [shape(each) for each in device.above]) if device.above else device.link.name


def pod(name: str, *ips: str, node: str = "n", phase: str = "Running", host: bool = False) -> Pod:
    return Pod("d", name, node, tuple(map(A, ips)), host_network=host, phase=phase)


def test_what_is_on_a_device_stands_on_it() -> None:
    links = (
        Link("lo", 1),
        Link("eth0", 2, master="bond0"),
        Link("eth1", 3, master="bond0"),
        Link("bond0", 4, "bond"),
        Link("bond0.10", 5, "vlan", parent="bond0", master="br0", detail=Vlan(10)),
        Link("br0", 6, "bridge"),
        Link("vx", 7, "vxlan", parent="bond0", mtu=1500, detail=Tunnel(local=A("10.0.0.1"))),
        Link("gone", 8, "macvlan", parent="not-there"),
    )
    vlan = PortVlan("bond0.10", 10, pvid=True)
    tree = found(*links, port_vlans=(vlan,), addresses=(Address("br0", A("10.0.0.1"), 8, "global"),))
    assert [shape(each) for each in tree.devices] == [
        "lo",
        ("bond0", ["eth0", "eth1", "vx"]),
        ("br0", ["bond0.10"]),
        "gone",
    ]
    bridge = tree.devices[2]
    assert [str(a.ip) for a in bridge.addresses] == ["10.0.0.1"]
    assert bridge.above[0].vlans == (vlan,)


def test_devices_that_name_each_other_are_shown_once() -> None:
    tree = found(Link("a", 1, "vlan", parent="b"), Link("b", 2, "vlan", parent="a"), Link("c", 3, parent="c"))
    assert [shape(each) for each in tree.devices] == ["c", ("a", ["b"])]


def test_kinds_that_no_dump_tells() -> None:
    assert found(Link("a", 1)).known
    assert not found(Link("a", 1), covered=frozenset()).known


# ---------------------------------------------------------------- whose a device is

CNI0 = Link("cni0", 4, "bridge")
VETH = Link("veth6", 6, "veth", master="cni0", peer_index=2, peer_netns=0, hairpin=True)
ETH0 = Link("eth0", 5, mac="02:00:00:00:00:05", mtu=1500)
POD_NET = Route(ip_network("10.0.0.0/24"), "unicast", (NextHop("cni0"),))


def dumped(*links: Link, ips: tuple[str, ...] = (), covered: frozenset[str] = COVERED) -> dict[str, Node]:
    addresses = tuple(Address(links[0].name, A(ip), 24, "global") for ip in ips)
    return {"d/web": Node("pod d/web", links=(Link("lo", 1), *links), addresses=addresses, covered=covered)}


def shown(tree: NodeDevices) -> list[tuple[str | None, Hanging]]:
    """(the device it is shown at, the pod) of every pod."""
    out: list[tuple[str | None, Hanging]] = [(None, each) for each in tree.loose]
    todo = list(tree.devices)
    while todo:
        device = todo.pop()
        out += [(device.link.name, each) for each in device.pods]
        todo += device.above
    return out


def only(tree: NodeDevices) -> tuple[str | None, Hanging]:
    (one,) = shown(tree)
    return one


def test_a_dump_of_the_pod_names_the_other_end() -> None:
    own = Link("eth0", 2, "veth", peer_index=6, peer_netns=0)
    # Another veth device has the same index in its own namespace: the pair has to agree both ways.
    decoy = Link("veth9", 9, "veth", master="cni0", peer_index=2, peer_netns=1)
    inside = dumped(own, ips=("10.0.0.7", "fe80::7"))
    where, hung = only(found(CNI0, decoy, VETH, inside=inside))
    assert (where, hung.pod, hung.kind, hung.told, hung.link) == ("veth6", "d/web", "bridge", "dump", own)
    assert hung.ips == (A("10.0.0.7"),)
    routed = replace(VETH, master=None)
    where, hung = only(found(routed, inside=inside))
    assert (where, hung.kind) == ("veth6", "routed")
    where, hung = only(found(CNI0, decoy, inside=inside))
    assert (where, hung.dev, hung.kind, hung.means) == (None, None, "veth", "")
    assert "device 6 of the node" in hung.because


def test_every_device_of_a_pod_is_told_and_what_it_made_itself_is_not() -> None:
    own = (
        Link("eth0", 2, "veth", peer_index=6, peer_netns=0),
        Link("net1", 3, "macvlan", mode="bridge", peer_index=5, peer_netns=0),
        Link("tunl0", 4, "ipip", detail=Tunnel()),
        Link("net1.5", 7, "vlan", parent="net1", detail=Vlan(5)),
        Link("dummy0", 8, "dummy"),
    )
    tree = found(CNI0, VETH, ETH0, inside=dumped(*own))
    assert sorted((where, hung.kind) for where, hung in shown(tree) if where) == [
        ("eth0", "macvlan"),
        ("veth6", "bridge"),
    ]
    assert not tree.loose


@pytest.mark.parametrize(
    ("own", "kind", "words"),
    [
        (
            Link("eth0", 3, "macvlan", mode="bridge", peer_index=5, peer_netns=0),
            "macvlan",
            "are not translated for it; it and",
        ),
        (
            Link("eth0", 3, "macvtap", mode="vepa", peer_index=5, peer_netns=0),
            "macvlan",
            "pods on eth0 do not reach each other",
        ),
        (
            Link("eth0", 3, "ipvlan", mac=ETH0.mac, mode="l2", peer_index=5),
            "ipvlan",
            "are not translated for it; it and",
        ),
        (
            Link("eth0", 3, "ipvlan", mac=ETH0.mac, mode="l2", peer_index=5, detail=Ipvlan(private=True)),
            "ipvlan",
            "do not reach each other directly",
        ),
        (
            Link("eth0", 3, "ipvlan", mac=ETH0.mac, mode="l3", peer_index=5),
            "ipvlan",
            "the answers go past them and are not",
        ),
        (Link("eth0", 3, "ipvlan", mac=ETH0.mac, mode="l3s", peer_index=5), "ipvlan", "are translated both ways"),
        (Link("eth0", 3, "vlan", peer_index=5, detail=Vlan(7)), "vlan", "are not translated for it"),
    ],
)
def test_a_device_made_on_one_of_the_nodes(own: Link, kind: str, words: str) -> None:
    where, hung = only(found(ETH0, inside=dumped(own)))
    assert (where, hung.kind, hung.told) == ("eth0", kind, "dump")
    assert words in hung.means


def test_a_device_whose_parent_is_not_the_nodes() -> None:
    own = Link("eth0", 3, "ipvlan", mac="02:00:00:00:00:99", mode="l2", peer_index=5, peer_netns=2)
    where, hung = only(found(ETH0, inside=dumped(own)))
    assert (where, hung.dev) == (None, None)
    card = Link("eth0", 3)
    where, hung = only(found(ETH0, inside=dumped(card)))
    assert (where, hung.kind) == (None, "device")
    assert "are not translated for it" in hung.means
    # Without -d the dump of the pod does not tell a card from a veth device.
    (where, hung) = only(found(ETH0, inside=dumped(card, covered=frozenset())))
    assert (where, hung.kind, hung.told) == (None, "", "")


def test_a_device_named_after_the_pod() -> None:
    cali = Link("cali0123", 8, "veth", peer_index=3, peer_netns=4)
    where, hung = only(found(cali, pods=(pod("web", "10.0.0.7"),), named={"cali0123": "d/web"}))
    assert (where, hung.kind, hung.told, hung.ips) == ("cali0123", "routed", "name", (A("10.0.0.7"),))
    where, hung = only(found(CNI0, VETH, pods=(pod("web", "10.0.0.7"),), named={"veth6": "d/web"}))
    assert (where, hung.kind) == ("veth6", "bridge")


def test_by_neighbour_and_fdb_or_by_route() -> None:
    web = (pod("web", "10.0.0.7"),)
    other = Link("veth7", 7, "veth", master="cni0", peer_index=2, peer_netns=1)
    near = (Neighbour(A("10.0.0.7"), "cni0", "02:00:00:00:00:77", ("STALE",)),)
    fdb = (FdbEntry("02:00:00:00:00:77", "veth7", None, "cni0"),)
    where, hung = only(found(CNI0, VETH, other, pods=web, routes=(POD_NET,), neighbours=near, fdb=fdb))
    assert (where, hung.kind, hung.told) == ("veth7", "bridge", "neighbour")
    where, hung = only(found(CNI0, VETH, other, pods=web, routes=(POD_NET,)))
    assert (where, hung.kind, hung.told) == ("cni0", "bridge", "route")
    assert "behind which of its ports is in no dump" in hung.because
    where, hung = only(found(CNI0, VETH, pods=web, routes=(POD_NET,)))
    assert (where, hung.told) == ("veth6", "neighbour")
    assert "whose only port is veth6" in hung.because
    host = Route(ip_network("10.0.0.7/32"), "unicast", (NextHop("veth9"),))
    where, hung = only(found(Link("veth9", 9, "veth", peer_index=2, peer_netns=0), pods=web, routes=(host,)))
    assert (where, hung.kind, hung.told) == ("veth9", "routed", "route")


def test_a_slave_of_a_device_of_the_network_is_concluded() -> None:
    eth0 = Link("eth0", 2, mac="02:00:00:00:00:01")
    own = (Address("eth0", A("10.0.0.2"), 24, "global"),)
    net = (Route(ip_network("10.0.0.0/24"), "unicast", (NextHop("eth0"),)),)
    where, hung = only(found(eth0, pods=(pod("web", "10.0.0.7"),), routes=net, addresses=own))
    assert (where, hung.kind, hung.told) == ("eth0", "macvlan or ipvlan in mode l2", "conclusion")
    assert "is not ruled out" in hung.because
    assert "ClusterIPs are not translated for it" in hung.means
    mine = (FdbEntry("02:00:00:00:00:99", "eth0", None, None, ("self", "permanent")),)
    where, hung = only(found(eth0, pods=(pod("web", "10.0.0.7"),), routes=net, addresses=own, fdb=mine))
    assert (where, hung.kind) == ("eth0", "macvlan")


def test_what_is_not_known_is_said() -> None:
    where, hung = only(found(CNI0, pods=(pod("web", "10.0.0.7"),)))
    assert (where, hung.dev, hung.kind, hung.told) == (None, None, "", "")
    assert "no route" in hung.because
    _, hung = only(found(CNI0, pods=(pod("web", "10.0.0.7"),), covered=frozenset({"link"})))
    assert "no dump has the IPv4 routes" in hung.because
    _, hung = only(found(CNI0, pods=(pod("web"),)))
    assert "the API has no address of it" in hung.because


def test_pods_without_a_network_of_their_own_here_are_not_listed() -> None:
    others = (pod("a", "10.0.0.1", node="m"), pod("b", "10.0.0.2", host=True), pod("c", "10.0.0.3", phase="Succeeded"))
    assert shown(found(CNI0, pods=others)) == []


# ---------------------------------------------------------------- what it means


def nf(value: str) -> dict[str, Sysctl]:
    return {"net.bridge.bridge-nf-call-iptables": Sysctl("net.bridge.bridge-nf-call-iptables", value)}


@pytest.mark.parametrize(
    ("value", "bridge", "port"),
    [
        ("1", "so does what they send each other", "does not reach itself through a Service"),
        ("0", "stay untranslated", ""),
        (None, "is in no dump", "through a Service if frames pass iptables"),
    ],
)
def test_a_bridge_and_its_ports(value: str | None, bridge: str, port: str) -> None:
    link = replace(VETH, hairpin=False, isolated=True)
    sysctls = {} if value is None else nf(value)
    covered = COVERED if value is not None else COVERED - {"sysctl"}
    (tree,) = found(CNI0, link, sysctls=sysctls, covered=covered).devices
    assert bridge in tree.means
    assert port in tree.above[0].means
    assert "isolated" in tree.above[0].means
    assert found(CNI0).devices[0].means == ""
    (tree,) = found(CNI0, replace(VETH, port_state="blocking"), sysctls=nf("1")).devices
    assert tree.above[0].means == "port is blocking: nothing passes it"


def test_devices_that_keep_packets() -> None:
    service = (Address("d", A("10.96.0.1"), 32, "global"),)
    (device,) = found(Link("d", 2, "dummy"), addresses=service).devices
    assert device.means.startswith("holds Service addresses")
    (device,) = found(Link("d", 2, "dummy")).devices
    assert device.means == "what is sent by it is swallowed"
    (device,) = found(Link("t", 2, "tun", mode="tun")).devices
    assert "a process of the node" in device.means


def test_tunnels_tell_what_fits() -> None:
    vx = Link("vx", 7, "vxlan", parent="eth0", mtu=1500, detail=Tunnel(local=A("192.168.1.1")))
    (tree,) = found(ETH0, vx).devices
    assert tree.above[0].fit is not None
    assert tree.above[0].fit.mtu == 1450
