"""Messages of nfnetlink, byte by byte; the kernel's side of it is in tests/lab/test_verify.py."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address

import pytest

from netk8s.collect import nfnetlink
from netk8s.collect._wire import attribute
from netk8s.collect.nfnetlink import NftTrace, _message, _nft_event, attributes


def test_attributes_come_back() -> None:
    data = attribute(1, b"abc") + attribute(2 | 0x8000, b"") + attribute(3, b"\0\0\0\7")
    assert attributes(data) == {1: b"abc", 2: b"", 3: b"\0\0\0\7"}


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\0\0\0", b"\xff\xff\1\0ab", b"\2\0\1\0"])
def test_broken_attributes_end(data: bytes) -> None:
    attributes(data)


def events(kind: int, **members: bytes) -> nfnetlink.TraceEvent:
    numbers = {"table": 1, "chain": 2, "handle": 3, "verdict": 5, "id": 6, "header": 8, "policy": 16}
    found = {numbers[name]: value for name, value in members.items()}
    return _nft_event(2, {4: struct.pack("!I", kind), **found})


def test_an_nft_event() -> None:
    verdict = attribute(1, struct.pack("!i", -3)) + attribute(2, b"KUBE-SERVICES\0")
    one = events(3, table=b"nat\0", chain=b"OUTPUT\0", handle=b"\0\0\0\0\0\0\0\x09", verdict=verdict, id=b"\0\0\0\1")
    assert (one.family, one.table, one.chain, one.kind, one.action) == (
        4,
        "nat",
        "OUTPUT",
        "rule",
        "jump KUBE-SERVICES",
    )
    assert (one.handle, one.trace_id) == (9, 1)
    assert events(3, verdict=attribute(1, struct.pack("!i", 0))).action == "drop"
    assert events(1, policy=struct.pack("!I", 0)).action == "drop"
    assert events(1, policy=struct.pack("!I", 1)).action == "accept"


def test_the_trace_group_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    monkeypatch.setattr(nfnetlink, "open_socket", lambda: there)
    monkeypatch.setattr(nfnetlink, "SOL_NETLINK", socket.SOL_SOCKET)
    monkeypatch.setattr(nfnetlink, "ADD_MEMBERSHIP", socket.SO_REUSEADDR)
    with here:
        trace = NftTrace()
        assert list(trace.read()) == []
        other = _message(nfnetlink.NFTABLES << 8 | 6, 0, 2, 0, attribute(1, b"x\0"))
        here.send(other + _message(nfnetlink.NFTABLES << 8 | 17, 0, 10, 0, attribute(1, b"nat\0")))
        assert [(one.family, one.table) for one in trace.read()] == [(6, "nat")]
        trace.close()


def test_a_conntrack_tuple() -> None:
    src, dst = ip_address("fd00::1"), ip_address("fd00::2")
    ip = attribute(3, src.packed) + attribute(4, dst.packed)
    ports = attribute(1, b"\6") + attribute(2, struct.pack("!H", 1)) + attribute(3, struct.pack("!H", 2))
    found = nfnetlink._tuple(attribute(1 | 0x8000, ip) + attribute(2 | 0x8000, ports))
    assert (found.src, found.dst, found.sport, found.dport) == (src, dst, 1, 2)
