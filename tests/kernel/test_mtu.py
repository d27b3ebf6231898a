"""What tunnels add. The figures are the kernel's own: the MTU it gives to such a device on a device of 1500."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from netk8s.kernel import mtu
from netk8s.kernel.netns import Netns
from netk8s.model import FdbEntry, Link, MtuFit, NextHop, Node, Route, Tunnel

A = ip_address
V4, V6 = Tunnel(remote=A("192.168.10.9")), Tunnel(remote=A("fd00::9"))


@pytest.mark.parametrize(
    ("kind", "detail", "family", "size"),
    [
        ("vxlan", V4, 4, 50),
        ("vxlan", V6, 6, 70),
        ("geneve", V4, 4, 50),
        ("geneve", V6, 6, 70),
        ("ipip", V4, 4, 20),
        ("sit", V4, 4, 20),
        ("gre", V4, 4, 24),
        ("gre", Tunnel(id=5), 4, 28),
        ("gre", Tunnel(id=5, csum=True, seq=True), 4, 36),
        ("gretap", V4, 4, 38),
        ("ip6tnl", V6, 6, 48),
        ("ip6tnl", Tunnel(encap_limit=False), 6, 40),
        ("ip6gre", V6, 6, 52),
        ("ipip", Tunnel(encap="fou"), 4, 28),
        ("gre", Tunnel(encap="gue"), 4, 36),
        ("wireguard", None, 4, 60),
        ("wireguard", None, 6, 80),
        ("vlan", None, 4, 0),
        ("bridge", None, 4, 0),
        ("xfrm", None, 4, None),
        ("erspan", V4, 4, None),
        ("ipip", Tunnel(encap="other"), 4, None),
    ],
)
def test_overhead(kind: str, detail: Tunnel | None, family: int, size: int | None) -> None:
    assert mtu.overhead(Link("t", 9, kind, detail=detail), family) == size


@pytest.mark.parametrize(
    ("kind", "detail", "family"),
    [
        ("vxlan", V6, 6),
        ("vxlan", Tunnel(local=A("192.168.10.5")), 4),
        ("vxlan", Tunnel(), 4),
        ("vxlan", Tunnel(external=True), None),
        ("ipip", Tunnel(), 4),
        ("ip6gre", Tunnel(), 6),
        ("wireguard", None, None),
        ("dummy", None, None),
    ],
)
def test_outer_family(kind: str, detail: Tunnel | None, family: int | None) -> None:
    assert mtu.outer_family(Link("t", 9, kind, detail=detail)) == family


def netns(*links: Link, routes: tuple[Route, ...] = (), fdb: tuple[FdbEntry, ...] = ()) -> Netns:
    eth = (Link("eth0", 2, mtu=1500), Link("eth1", 3, mtu=1400))
    more = (Route(ip_network("192.168.0.0/16"), "unicast", (NextHop("eth0"),)),)
    more += (Route(ip_network("172.16.0.0/12"), "unicast", (NextHop("eth1"),)),)
    return Netns(Node("n", links=(*eth, *links), routes=(*more, *routes), fdb=fdb, covered=frozenset({"route4"})))


def test_the_device_below_is_the_one_it_is_bound_to() -> None:
    link = Link("vx", 9, "vxlan", parent="eth1", detail=V4)
    assert mtu.fit(netns(link), link) == MtuFit(1350, 50, 4, "eth1", 1400)
    assert mtu.fit(Netns(Node("n", links=(link,))), link) is None


def test_or_else_those_that_routes_to_its_other_ends_name() -> None:
    link = Link("vx", 9, "vxlan", detail=V4)
    assert mtu.fit(netns(link), link) == MtuFit(1450, 50, 4, "eth0", 1500)
    many = Link("vx", 9, "vxlan", detail=Tunnel(local=A("192.168.1.1")))
    ends = tuple(FdbEntry("02:00:00:00:00:01", "vx", A(ip)) for ip in ("192.168.1.2", "172.16.0.1"))
    assert mtu.fit(netns(many, fdb=ends), many) == MtuFit(1350, 50, 4, "eth1", 1400)
    tunl0 = Link("tunl0", 9, "ipip", detail=Tunnel())
    route = Route(ip_network("10.0.0.0/8"), "unicast", (NextHop("tunl0", A("172.16.0.9")),))
    assert mtu.fit(netns(tunl0, routes=(route,)), tunl0) == MtuFit(1380, 20, 4, "eth1", 1400, told=True)
    assert mtu.fit(netns(tunl0), tunl0) is None


@pytest.mark.parametrize("link", [Link("w", 9, "wireguard"), Link("v", 9, "vlan", parent="eth0"), Link("x", 9)])
def test_nothing_is_said_where_nothing_is_wrapped_or_nothing_known(link: Link) -> None:
    assert mtu.fit(netns(link), link) is None


def test_a_device_that_tells_takes_what_fits_whole() -> None:
    fits = MtuFit(1380, 20, 4, "eth1", 1400, told=True)
    assert mtu.takes(Link("t", 9, "ipip", mtu=1480), fits) == 1380
    assert mtu.takes(Link("t", 9, "vxlan", mtu=1480), MtuFit(1350, 50, 4, "eth1", 1400)) == 1480
    assert mtu.takes(Link("t", 9), None) is None
