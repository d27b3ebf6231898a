"""Packets are read back as they were built, and what is broken is none."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from netk8s_probes import wire
from netk8s_probes.plan import Plan

V4 = (ip_address("192.0.2.9"), ip_address("192.0.2.1"))
V6 = (ip_address("fd00::9"), ip_address("fd00::1"))


@pytest.mark.parametrize("ends", [V4, V6])
def test_a_syn(ends: tuple[wire.Addr, wire.Addr]) -> None:
    probe = Plan("syn", *ends, 41000, 80, 77)
    found = wire.read(wire.built(probe))
    assert found is not None
    assert (found.src, found.dst, found.sport, found.dport) == (*ends, 41000, 80)
    assert (found.flags, found.seq, found.ident, found.mss) == ("S", wire.sequence(probe), 77, 1460)
    ended = wire.read(wire.reset(probe))
    assert ended is not None
    assert (ended.flags, ended.seq) == ("R", wire.sequence(probe) + 1)


@pytest.mark.parametrize("ends", [V4, V6])
def test_a_datagram_and_an_echo(ends: tuple[wire.Addr, wire.Addr]) -> None:
    udp, echo = Plan("udp", *ends, 41000, 53, 77), Plan("echo", *ends, 0, None, 77)
    found = wire.read(wire.built(udp))
    assert found is not None
    assert (found.sport, found.dport, found.payload) == (41000, 53, b"netk8s-probe 00077\n")
    found = wire.read(wire.built(echo))
    assert found is not None
    assert found.icmp == ((8, 0) if ends is V4 else (128, 0))
    assert echo.payload in found.payload


def test_an_icmp_error_has_the_packet_it_is_about() -> None:
    probe = Plan("syn", *V4, 41000, 80, 77)
    inner = wire.built(probe)[:28]
    icmp = struct.pack("!BBHI", 3, 3, 0, 0) + inner
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0) + V4[1].packed + V4[0].packed
    found = wire.read(head + icmp)
    assert found is not None
    assert found.icmp == (3, 3)
    assert found.inner is not None
    assert (found.inner.src, found.inner.sport, found.inner.dport, found.inner.seq) == (
        V4[0],
        41000,
        80,
        wire.sequence(probe),
    )


def test_an_icmpv6_error_has_the_packet_it_is_about() -> None:
    inner = wire.built(Plan("udp", *V6, 41000, 53, 77))[:48]
    icmp = struct.pack("!BBHI", 1, 4, 0, 0) + inner
    head = struct.pack("!IHBB", 6 << 28, len(icmp), 58, 64) + V6[1].packed + V6[0].packed
    found = wire.read(head + icmp)
    assert found is not None
    assert found.icmp == (1, 4)
    assert found.inner is not None
    assert (found.inner.dst, found.inner.dport, found.inner.ident) == (V6[1], 53, 77)


@pytest.mark.parametrize(
    "data", [b"", b"\x45", b"\x60" + bytes(10), b"\x00" * 40, b"\x45" + b"\xff" * 19, bytes(range(60))]
)
def test_what_is_no_packet(data: bytes) -> None:
    wire.read(data)
    for size in range(60):
        wire.read(wire.built(Plan("syn", *V4, 1, 2, 3))[:size])
