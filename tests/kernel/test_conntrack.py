"""Which packets open an entry: nf_conntrack_proto_tcp.c, _icmp.c, _icmpv6.c."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from netk8s.kernel.conntrack import first_state
from netk8s.model import ICMP, ICMPV6, TCP, UDP, Packet

V4 = (ip_address("192.0.2.1"), ip_address("192.0.2.2"))
V6 = (ip_address("2001:db8::1"), ip_address("2001:db8::2"))


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ("SYN", "NEW"),
        ("SYN ECE CWR", "NEW"),
        ("ACK", "NEW"),
        ("ACK PSH", "NEW"),
        ("SYN ACK", "INVALID"),
        ("RST", "INVALID"),
        ("RST ACK", "INVALID"),
        ("FIN ACK", "INVALID"),
        ("FIN", "INVALID"),
        ("", "INVALID"),
        ("SYN FIN", "INVALID"),
        ("FIN PSH URG", "INVALID"),
    ],
)
def test_tcp(flags: str, state: str) -> None:
    packet = Packet(TCP, *V4, 40000, 80, tcp_flags=frozenset(flags.split()))
    assert first_state(packet) == state


def test_an_ack_in_the_middle_of_a_connection_opens_an_entry_only_where_that_is_allowed() -> None:
    packet = Packet(TCP, *V4, 40000, 80, tcp_flags=frozenset({"ACK"}))
    assert first_state(packet, loose=False) == "INVALID"


@pytest.mark.parametrize(
    ("kind", "state"), [(8, "NEW"), (13, "NEW"), (0, "INVALID"), (3, "INVALID"), (11, "INVALID"), (14, "INVALID")]
)
def test_icmp(kind: int, state: str) -> None:
    assert first_state(Packet(ICMP, *V4, icmp_type=kind, icmp_code=0)) == state


@pytest.mark.parametrize(
    ("kind", "state"), [(128, "NEW"), (129, "INVALID"), (1, "INVALID"), (135, "UNTRACKED"), (143, "UNTRACKED")]
)
def test_icmpv6(kind: int, state: str) -> None:
    assert first_state(Packet(ICMPV6, *V6, icmp_type=kind, icmp_code=0)) == state


def test_udp_has_no_wrong_beginning() -> None:
    assert first_state(Packet(UDP, *V4, 53, 40000, tcp_flags=frozenset())) == "NEW"
