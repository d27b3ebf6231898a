"""What the routing decision drops for its addresses: ip_route_input_slow, fib_validate_source."""

from __future__ import annotations

from ipaddress import ip_address as ip
from ipaddress import ip_network as net

import pytest

from netk8s.kernel.flight import Conn, Flight, tuple_of
from netk8s.kernel.martians import martian
from netk8s.kernel.netns import Netns
from netk8s.model import TCP, Address, NextHop, Node, Packet, Route, Sysctl

ROUTES = (
    Route(net("0.0.0.0/0"), "unicast", (NextHop("eth0", ip("192.168.10.1")),)),
    Route(net("192.168.10.0/24"), "unicast", (NextHop("eth0"),)),
    Route(net("10.244.1.0/24"), "unicast", (NextHop("cni0"),)),
    Route(net("172.20.0.0/16"), "blackhole", ()),
    Route(net("192.168.10.5/32"), "local", (NextHop("eth0"),), "local"),
    Route(net("127.0.0.0/8"), "local", (NextHop("lo"),), "local"),
)


def node(**settings: str) -> Netns:
    values = {f"net.ipv4.conf.{name.replace('__', '.')}": value for name, value in settings.items()}
    return Netns(
        Node(
            "n",
            addresses=(Address("eth0", ip("192.168.10.5"), 24, "global"),),
            routes=ROUTES,
            sysctls={name: Sysctl(name, value) for name, value in values.items()},
            covered=frozenset({"addr", "route4", "sysctl"}),
        )
    )


def arriving(src: str, dst: str = "10.244.1.6", iif: str = "eth0") -> Flight:
    packet = Packet(TCP, ip(src), ip(dst), 40000, 80)
    there = tuple_of(packet)
    return Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif=iif)


@pytest.mark.parametrize(
    ("flight", "settings", "words"),
    [
        (arriving("192.168.10.9"), {}, ""),
        (arriving("192.168.10.9", "127.0.0.1"), {}, "martian destination"),
        (arriving("192.168.10.9", "127.0.0.1"), {"all__route_localnet": "1"}, ""),
        (arriving("192.168.10.9", "127.0.0.1"), {"eth0__route_localnet": "1"}, ""),
        (arriving("127.0.0.1"), {}, "martian source"),
        (arriving("192.168.10.5"), {}, "an address of n itself"),
        (arriving("192.168.10.5"), {"eth0__accept_local": "1"}, ""),
        (arriving("10.244.1.9"), {}, ""),
        (arriving("10.244.1.9"), {"all__rp_filter": "1"}, "leaves by cni0"),
        (arriving("10.244.1.9"), {"eth0__rp_filter": "2", "all__rp_filter": "1"}, ""),
        (arriving("172.20.0.1"), {"all__rp_filter": "2"}, "no route back"),
        (arriving("203.0.113.9"), {"all__rp_filter": "1"}, ""),
    ],
)
def test_what_is_dropped(flight: Flight, settings: dict[str, str], words: str) -> None:
    found = martian(flight, node(**settings))
    assert (words in found) if words else found == ""


def test_what_comes_back_by_lo_is_not_looked_at_again() -> None:
    assert martian(arriving("192.168.10.5", "192.168.10.5", "lo"), node(all__rp_filter="1")) == ""


def test_ipv6_has_neither() -> None:
    packet = Packet(TCP, ip("fd00::5"), ip("::1"), 40000, 80)
    there = tuple_of(packet)
    assert martian(Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0"), node()) == ""
