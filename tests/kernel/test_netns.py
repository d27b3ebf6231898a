"""One node's view: which dumps cover what, whose addresses are its own, settings and sockets."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netk8s.decode import iptables_save
from netk8s.kernel.netns import Netns
from netk8s.model import (
    TCP,
    UDP,
    Address,
    At,
    Bridge,
    Dump,
    FdbEntry,
    IpSet,
    Link,
    Neighbour,
    NextHop,
    Node,
    Route,
    Socket,
    Sysctl,
    Table,
)

A, N = ip_address, ip_network
ETH0 = Address("eth0", A("192.168.10.5"), 24, "global", index=2)


def sysctls(*pairs: tuple[str, str]) -> Netns:
    return Netns(Node("n", sysctls={name: Sysctl(name, value) for name, value in pairs}))


def test_what_no_dump_covers_is_not_known() -> None:
    bare, full = Netns(Node("n")), Netns(Node("n", covered=frozenset({"route4", "addr", "socket", "rules6"})))
    assert (bare.routes_known(4), bare.addresses_known, bare.sockets_known, bare.rules_known(4)) == (False,) * 4
    assert (full.routes_known(4), full.routes_known(6)) == (True, False)
    assert (full.rules_known(4), full.rules_known(6)) == (False, True)
    assert full.addresses_known
    assert full.sockets_known


def test_addresses_by_device_in_the_kernel_s_order() -> None:
    more = (
        Address("cni0", A("10.244.1.1"), 24, "global", index=5),
        ETH0,
        Address("eth0", A("10.0.0.1"), 8, "global", index=2),
    )
    space = Netns(Node("n", addresses=more, links=(Link("lo", 1), Link("veth1", 9))))
    assert [a.ip for a in space.addresses["eth0"]] == [A("192.168.10.5"), A("10.0.0.1")]
    assert space.devices == ("lo", "eth0", "cni0", "veth1")


def test_whose_an_address_is() -> None:
    known = Netns(Node("n", addresses=(ETH0,), covered=frozenset({"addr"})))
    assert known.is_local(A("192.168.10.5")) is True
    assert known.is_local(A("192.168.10.6")) is False
    assert known.is_local(A("127.0.0.1")) is True
    bare = Netns(Node("n"), own=[A("192.0.2.1")], foreign=[A("10.96.0.1")])
    assert bare.is_local(A("192.0.2.1")) is True
    assert bare.is_local(A("10.96.0.1")) is False
    assert bare.is_local(A("224.0.0.1")) is False
    assert bare.is_local(A("192.0.2.2")) is None
    assert bare.is_local_question(A("192.0.2.2")).default is False
    by_routes = Netns(Node("n", routes=(Route(N("10.0.0.9/32"), "local", (NextHop("eth0"),), "local"),)))
    assert by_routes.is_local(A("10.0.0.9")) is True
    assert by_routes.is_local(A("10.0.0.8")) is False


def test_routes_without_the_local_table_get_it_from_the_addresses() -> None:
    space = Netns(Node("n", addresses=(ETH0,), routes=(Route(N("0.0.0.0/0"), "unicast", (NextHop("eth0"),)),)))
    assert space.fib(4).lookup(A("192.168.10.5"), None).kind == "local"
    assert space.fib(4).lookup(A("127.0.0.1"), None).kind == "local"
    assert space.fib(4).lookup(A("8.8.8.8"), None).kind == "unicast"
    assert space.fib(4) is space.fib(4)


@pytest.mark.parametrize(
    ("pairs", "dev", "expected"),
    [
        ([], "eth0", 0),
        ([("net.ipv4.conf.all.rp_filter", "1")], "eth0", 1),
        ([("net.ipv4.conf.eth0.rp_filter", "2"), ("net.ipv4.conf.all.rp_filter", "1")], "eth0", 2),
        ([("net.ipv4.conf.eth0.rp_filter", "0"), ("net.ipv4.conf.all.rp_filter", "1")], "eth0", 1),
        ([("net.ipv4.conf.eth1.rp_filter", "2")], "eth0", 0),
        ([("net.ipv4.conf.eth0/5.rp_filter", "1")], "eth0.5", 1),
        ([("net.ipv4.conf.all.rp_filter", "nonsense")], "eth0", 0),
    ],
)
def test_the_larger_of_all_and_the_device_counts(pairs: list[tuple[str, str]], dev: str, expected: int) -> None:
    assert sysctls(*pairs).dev_setting("rp_filter", dev) == expected


def test_forwarding() -> None:
    assert sysctls().forwards(4, "eth0") is None
    assert sysctls(("net.ipv4.ip_forward", "1")).forwards(4, "eth0") is True
    assert sysctls(("net.ipv4.ip_forward", "0")).forwards(4, "eth0") is False
    # The device's own setting is what ip_route_input asks for (IN_DEV_FORWARD).
    both = sysctls(("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.eth0.forwarding", "0"))
    assert both.forwards(4, "eth0") is False
    assert both.forwards(4, "eth1") is True
    assert both.forwards(6, "eth0") is None
    assert sysctls(("net.ipv6.conf.all.forwarding", "1")).forwards(6, "eth0") is True


def test_bridge_netfilter() -> None:
    assert sysctls().bridge_netfilter(4) is None
    assert sysctls(("net.bridge.bridge-nf-call-iptables", "1")).bridge_netfilter(4) is True
    assert sysctls(("net.bridge.bridge-nf-call-iptables", "0")).bridge_netfilter(4) is False
    assert sysctls(("net.bridge.bridge-nf-call-iptables", "1")).bridge_netfilter(6) is None
    assert sysctls(("net.bridge.bridge-nf-call-ip6tables", "1")).bridge_netfilter(6) is True
    # It exists only while br_netfilter is loaded: a list of settings without it says no.
    assert Netns(Node("n", covered=frozenset({"sysctl"}))).bridge_netfilter(4) is False
    link = Link("cni0", 3, "bridge", detail=Bridge(nf_call_iptables=True))
    own = Netns(Node("n", links=(link,), sysctls={"net.bridge.bridge-nf-call-iptables": Sysctl("x", "0")}))
    assert own.bridge_netfilter(4, "cni0") is True
    assert own.bridge_netfilter(4, "cni1") is False


@pytest.mark.parametrize(
    ("socket", "protocol", "ip", "port", "taken"),
    [
        (Socket(TCP, None, 80), TCP, "192.168.10.5", 80, True),
        (Socket(TCP, None, 80), TCP, "fd00::1", 80, True),
        (Socket(TCP, None, 80), UDP, "192.168.10.5", 80, False),
        (Socket(TCP, None, 80), TCP, "192.168.10.5", 81, False),
        (Socket(TCP, None, 80, (4,)), TCP, "fd00::1", 80, False),
        (Socket(TCP, A("192.168.10.5"), 80, (4,)), TCP, "192.168.10.5", 80, True),
        (Socket(TCP, A("127.0.0.1"), 80, (4,)), TCP, "192.168.10.5", 80, False),
    ],
)
def test_who_listens(socket: Socket, protocol: int, ip: str, port: int, taken: bool) -> None:
    assert bool(Netns(Node("n", sockets=(socket,))).sockets_at(protocol, A(ip), port)) is taken


def test_neighbours_ports_and_sets() -> None:
    node = Node(
        "n",
        links=(
            Link("cni0", 3, "bridge"),
            Link("veth1", 4, "veth", master="cni0"),
            Link("veth2", 5, "veth", master="br1"),
        ),
        neighbours=(Neighbour(A("10.244.1.6"), "cni0", "02:00:00:00:00:06", ("REACHABLE",)),),
        fdb=(
            FdbEntry("02:00:00:00:00:06", "veth1"),
            FdbEntry("02:00:00:00:00:07", "veth1", flags=("self",)),
            FdbEntry("02:00:00:00:00:08", "flannel.1", A("192.168.10.6")),
        ),
        sets=(IpSet("a", "hash:ip", (), (), At("x")),),
    )
    space = Netns(node)
    found = space.neighbour(A("10.244.1.6"), "cni0")
    assert found is not None
    assert space.neighbour(A("10.244.1.6"), "eth0") is None
    assert space.port_of("02:00:00:00:00:06", "cni0") == "veth1"
    assert space.port_of("02:00:00:00:00:06", "br1") is None
    assert space.port_of("02:00:00:00:00:07", "cni0") is None
    assert space.port_of("02:00:00:00:00:08", "cni0") is None
    assert space.ipset("a") is not None
    assert space.ipset("b") is None


def test_tables_of_one_name_by_family() -> None:
    texts = [
        f"# Generated by {ip}tables-save v1.8.9{b} on x\n*nat\nCOMMIT\n"
        for ip in ("ip", "ip6")
        for b in ("", " (nf_tables)")
    ]
    tables = [
        f for i, t in enumerate(texts) for f in iptables_save.decode(Dump(f"x{i}", t.encode())) if isinstance(f, Table)
    ]
    space = Netns(Node("n", tables=tuple(tables)))
    assert [(t.family, t.backend) for t in space.tables(4, "nat")] == [(4, "nft"), (4, "legacy")]
    assert {t.family for t in space.tables(6, "nat")} == {6}
    assert space.tables(4, "filter") == ()
