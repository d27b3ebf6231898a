"""Membership in ipsets by what ``ipset save`` prints (ipset(8))."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netk8s.kernel import ipsets
from netk8s.kernel.flight import Conn, Flight, tuple_of
from netk8s.model import ICMP, TCP, UDP, At, IpSet, Packet

A = ip_address
PACKET = Packet(TCP, A("192.0.2.7"), A("10.96.0.1"), 40000, 80)


def flight(packet: Packet = PACKET, **changes: object) -> Flight:
    there = tuple_of(packet)
    return Flight(packet, Conn("NEW", "ORIGINAL", there, there.reversed()), iif="eth0", oif="eth1").with_(**changes)


def inside(kind: str, entries: list[str], directions: str, there: Flight | None = None) -> bool | None:
    return ipsets.contains(IpSet("s", kind, (), tuple(entries), At("x")), directions.split(","), there or flight())


@pytest.mark.parametrize(
    ("kind", "entries", "directions", "expected"),
    [
        ("hash:ip", ["192.0.2.7"], "src", True),
        ("hash:ip", ["192.0.2.7"], "dst", False),
        ("hash:ip", ["10.96.0.1"], "dst", True),
        ("hash:ip", [], "src", False),
        ("hash:ip", ["192.0.2.0/24"], "src", True),
        ("hash:ip", ["fd00::1"], "src", False),
        ("hash:ip", ["192.0.2.7 timeout 30"], "src", True),
        ("bitmap:ip", ["192.0.2.1-192.0.2.9"], "src", True),
        ("bitmap:ip", ["192.0.2.8-192.0.2.9"], "src", False),
        ("hash:net", ["192.0.0.0/16"], "src", True),
        ("hash:net", ["192.0.0.0/16", "192.0.2.0/24 nomatch"], "src", False),
        ("hash:net", ["192.0.2.0/24 nomatch", "192.0.0.0/16"], "src", False),
        ("hash:net", ["192.0.0.0/16 nomatch", "192.0.2.0/24"], "src", True),
        ("hash:ip,port", ["192.0.2.7,tcp:80"], "src,dst", True),
        ("hash:ip,port", ["192.0.2.7,udp:80"], "src,dst", False),
        ("hash:ip,port", ["192.0.2.7,tcp:40000"], "src,src", True),
        ("hash:ip,port", ["192.0.2.7,tcp:81"], "src,dst", False),
        ("hash:ip,port", ["192.0.2.7,tcp:79-81"], "src,dst", True),
        ("hash:ip,port,ip", ["10.96.0.1,tcp:80,192.0.2.7"], "dst,dst,src", True),
        ("hash:ip,port,net", ["10.96.0.1,tcp:80,192.0.2.0/24"], "dst,dst,src", True),
        ("hash:net,port", ["10.96.0.0/16,tcp:80"], "dst,dst", True),
        ("hash:net,net", ["192.0.2.0/24,10.96.0.0/16"], "src,dst", True),
        ("hash:net,net", ["192.0.2.0/24,10.97.0.0/16"], "src,dst", False),
        ("hash:net,iface", ["192.0.2.0/24,eth0"], "src,src", True),
        ("hash:net,iface", ["192.0.2.0/24,eth0"], "src,dst", False),
        ("hash:net,iface", ["192.0.2.0/24,eth1"], "src,dst", True),
        ("bitmap:port", ["80"], "dst", True),
        ("bitmap:port", ["81"], "dst", False),
    ],
)
def test_membership(kind: str, entries: list[str], directions: str, expected: bool) -> None:
    assert inside(kind, entries, directions) is expected


def test_kinds_and_entries_that_are_not_understood() -> None:
    assert inside("hash:mac", ["02:00:00:00:00:01"], "src") is None
    assert inside("list:set", ["other"], "src") is None
    assert inside("hash:ip", ["nonsense"], "src") is None
    assert inside("hash:ip,port", ["192.0.2.7"], "src,dst") is None
    assert inside("hash:ip,port", ["192.0.2.7,tcp:80"], "src") is None
    assert inside("hash:ip,port", ["192.0.2.7,tcp:http"], "src,dst") is None


def test_a_source_or_port_that_no_dump_tells_is_open() -> None:
    assert inside("hash:ip", ["192.0.2.7"], "src", flight(src_known=False)) is None
    assert inside("hash:ip", ["10.96.0.1"], "dst", flight(src_known=False)) is True
    assert inside("hash:ip,port", ["192.0.2.7,tcp:80"], "src,src", flight(PACKET.replace(sport=None))) is None


def test_packets_without_ports_are_in_no_set_of_ports() -> None:
    ping = flight(Packet(ICMP, A("192.0.2.7"), A("10.96.0.1"), icmp_type=8, icmp_code=0))
    assert inside("hash:ip,port", ["192.0.2.7,tcp:80"], "src,dst", ping) is False
    assert (
        inside("hash:ip,port", ["10.96.0.1,udp:53"], "dst,dst", flight(PACKET.replace(protocol=UDP, dport=53))) is True
    )


def test_an_unknown_device_is_open() -> None:
    assert inside("hash:net,iface", ["192.0.2.0/24,eth0"], "src,src", flight(iif=None, iif_known=False)) is None
