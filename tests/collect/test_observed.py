"""A kernel's events become an observation: only those of our packet, in the dumps' words."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from netk8s.collect import observed
from netk8s.collect.connection import Came
from netk8s.collect.nfnetlink import TraceEvent
from netk8s.model import TCP, Addr, ConntrackEntry, ConntrackTuple, Packet, Sighting

SRC, DST, POD, CNI = map(ip_address, ("192.0.2.9", "192.0.2.1", "10.0.0.5", "10.0.0.1"))
SENT = Packet(TCP, SRC, DST, 41000, 30000)


def header(src: Addr, sport: int, dst: Addr, dport: int, ident: int = 7, seq: int = 99) -> bytes:
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, ident, 0, 64, TCP, 0) + src.packed + dst.packed
    return ip + struct.pack("!HHIIHHI", sport, dport, seq, 0, 0x5002, 0, 0)


def event(table: str, chain: str, head: bytes = b"", trace_id: int = 1, **more: object) -> TraceEvent:
    found = {"backend": "nft", "family": 4, "kind": "rule", "action": "", "handle": 1, "number": 0, "iif": 0, "oif": 0}
    return TraceEvent(table=table, chain=chain, header=head, trace_id=trace_id, mark=0, **{**found, **more})  # type: ignore[arg-type]


FIRST = header(SRC, 41000, DST, 30000)


def test_the_packet_is_known_behind_nat_and_by_its_trace_id() -> None:
    events = [
        event("ours", "in_first", FIRST),
        event("nat", "PREROUTING"),
        event("ours", "left", header(CNI, 5, POD, 80)),
    ]
    assert list(observed._of_packet(events, SENT)) == events


def test_other_packets_are_left_out() -> None:
    other = event("nat", "PREROUTING", header(POD, 1, DST, 2, ident=8, seq=1), trace_id=2)
    behind = event("nat", "KUBE-SERVICES", trace_id=2)
    early = event("nat", "OUTPUT", trace_id=3)
    again = event("ours", "in_first", header(SRC, 41000, DST, 30000, ident=9), trace_id=4)
    mine = event("ours", "in_first", FIRST)
    assert list(observed._of_packet([early, other, mine, behind, again], SENT)) == [mine]


def test_legacy_events_have_their_headers_and_no_id() -> None:
    mine = event("raw", "PREROUTING", FIRST, trace_id=0, backend="legacy", number=1)
    other = event("raw", "PREROUTING", header(POD, 1, DST, 2, ident=8), trace_id=0, backend="legacy", number=2)
    assert list(observed._of_packet([mine, other, mine], SENT)) == [mine, mine]


@pytest.mark.parametrize("data", [b"", b"\x45", b"\x60" + bytes(20), b"\x10" + bytes(40)])
def test_a_header_that_is_cut_off(data: bytes) -> None:
    assert observed.parse(data) is None


def test_ipv6_headers() -> None:
    a, b = ip_address("fd00::1"), ip_address("fd00::2")
    data = struct.pack("!IHBB", 6 << 28 | 5, 20, TCP, 64) + a.packed + b.packed + struct.pack("!HHI", 1, 2, 3)
    assert observed.parse(data) == Packet(TCP, a, b, 1, 2)
    assert observed._untranslated(data) == (TCP, 5, 3)


def texts(monkeypatch: pytest.MonkeyPatch, text: str, backend: str) -> observed.Texts:
    monkeypatch.setattr(observed.iptables, "saved", lambda family: iter(()))
    made = observed.Texts(4)
    made._read(backend, text)
    return made


SAVED = "*nat\n:PREROUTING DROP [0:0]\n:X - [0:0]\n-A PREROUTING -j X\n-A X -j RETURN\nCOMMIT\n"


def test_legacy_rules_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    made = texts(monkeypatch, SAVED, "legacy")
    legacy = {"backend": "legacy", "handle": 0}
    assert made.rule(event("nat", "PREROUTING", number=1, **legacy)) == ("PREROUTING", "-A PREROUTING -j X")
    # An unconditional RETURN is called "return", as is the end of a chain.
    assert made.rule(event("nat", "X", kind="return", number=1, **legacy)) == ("X", "-A X -j RETURN")
    assert made.rule(event("nat", "X", kind="return", number=2, **legacy)) is None
    assert made.policy(event("nat", "PREROUTING", kind="policy", number=2, **legacy)) == "drop"


def test_nft_rules_by_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    made = texts(monkeypatch, SAVED, "nft")
    places = {("nat", 7): observed.nfnetlink.Place("X", 1)}
    monkeypatch.setattr(observed.nfnetlink, "rule_places", lambda family: places)
    assert made.rule(event("nat", "X", handle=7)) == ("X", "-A X -j RETURN")
    assert made.rule(event("nat", "X", handle=0)) is None
    assert made.rule(event("nat", "X", kind="policy", handle=7)) is None
    made._native = dict(
        observed._native(
            "table ip own { # handle 1\n chain c { # handle 2\n  counter packets 3 bytes 4 accept # handle 5\n }\n}\n"
        )
    )
    assert made.rule(event("own", "c", handle=5)) == ("c", "counter accept")
    assert made.rule(event("own", "c", handle=6)) == ("c", "handle 6")


def test_the_ends_of_a_connection() -> None:
    entry = ConntrackEntry(TCP, ConntrackTuple(SRC, DST, 41000, 30000), ConntrackTuple(POD, CNI, 80, 5))
    end, source = observed._ends(SENT, [], entry, Came("connected"))
    assert end is not None
    assert (end.ip, end.port, source) == (POD, 80, CNI)
    assert observed._ends(SENT, [], entry, Came("timeout"))[1] is None
    assert observed._ends(SENT, [], None, Came("timeout")) == (None, None)
    last = Sighting("forward", Packet(TCP, SRC, POD, 41000, 80))
    end, source = observed._ends(SENT, [last], None, Came("timeout"))
    assert end is not None
    assert (end.ip, source) == (POD, None)
