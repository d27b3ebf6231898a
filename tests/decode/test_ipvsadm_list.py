"""``ipvsadm -Ln``: the table for people."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s import decode
from netk8s.decode import ipvsadm_list
from netk8s.errors import DecodeError
from netk8s.model import SCTP, UDP, Coverage, Dump, Fact, Snapshot, VirtualServer

A = ip_address
TITLE = "IP Virtual Server version 1.2.1 (size=4096)\n"
HEAD = "Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
TEXT = (
    TITLE
    + HEAD
    + """TCP  192.168.52.200:30010 rr persistent 600
  -> 10.244.1.11:8080             Masq    1      2          5
  -> 10.244.2.12:8080             Route   0      0          0
UDP  [fd00::a]:53 mh (mh-port) persistent 10 mask 64 pe sip ops
  -> [fd00:1::5]:53               Tunnel  1      0          0
SCTP 10.96.55.1:3868 wlc
FWM  7 sh
  -> 192.0.2.1:0                  Local   1      0          0
FWM  8 IPv6 lblc
"""
)


def facts(text: str) -> list[Fact]:
    return list(ipvsadm_list.decode(Dump("x", text.encode())))


def test_servers() -> None:
    assert isinstance(facts(TEXT)[0], Coverage)
    tcp, udp, sctp, marked, marked6 = [f for f in facts(TEXT) if isinstance(f, VirtualServer)]
    assert (tcp.scheduler, tcp.persistence, tcp.at.line) == ("rr", 600, 4)
    assert [(r.method, r.weight, r.active, r.inactive) for r in tcp.real] == [("masq", 1, 2, 5), ("route", 0, 0, 0)]
    assert (udp.family, udp.protocol, udp.flags, udp.mask, udp.one_packet) == (6, UDP, ("mh-port", "pe=sip"), 64, True)
    assert (udp.real[0].ip, udp.real[0].method) == (A("fd00:1::5"), "tunnel")
    assert (sctp.protocol, sctp.scheduler, sctp.real) == (SCTP, "wlc", ())
    assert (marked.fwmark, marked.family, marked.real[0].method) == (7, 4, "local")
    assert (marked6.fwmark, marked6.family, marked6.scheduler) == (8, 6, "lblc")


def test_no_servers_is_not_no_dump() -> None:
    assert facts(TITLE + HEAD) == [Coverage("ipvs", facts(TITLE + HEAD)[0].at)]  # type: ignore[union-attr]


def test_lists_with_counters_are_known_and_tell_nothing() -> None:
    stats = TITLE + (
        "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  -> RemoteAddress:Port\n"
        "TCP  10.96.0.1:443                     180      797      719    42884    58059\n"
        "  -> 10.244.1.6:80                      60      247      240    13324    19376\n"
    )
    (only,) = facts(stats)
    assert isinstance(only, Coverage)
    assert only.kind == "ipvs-counters"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("HTTP 10.0.0.1:80 rr", "expected a virtual server"),
        ("TCP  10.0.0.1:http rr", "address:port in numbers"),
        ("TCP  10.0.0.1:80 rr persistent", "persistent has no value"),
        ("TCP  10.0.0.1:80 rr often", "is not known"),
        ("  -> 10.0.0.1:80 Masq 1 0", "forwarding method"),
        ("  -> 10.0.0.1:80 Hand 1 0 0", "forwarding method"),
        ("  -> 10.0.0.1:80 Masq one 0 0", "a count as a number"),
        ("FWM  9 IPv6", "expected a scheduler"),
    ],
)
def test_wrong_lines(line: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why) as error:
        facts(TEXT + line + "\n")
    assert error.value.line == 13


def test_a_real_server_first() -> None:
    with pytest.raises(DecodeError, match="before the first virtual one"):
        facts(TITLE + HEAD + "  -> 10.0.0.1:80 Masq 1 0 0\n")


def test_both_forms_are_one_table() -> None:
    """What `-Sn` says stands, and connections are those that `-Ln` counts."""
    saved = (
        b"-A -t 192.168.52.200:30010 -s rr -p 600\n"
        b"-a -t 192.168.52.200:30010 -r 10.244.1.11:8080 -m -w 1 -x 9\n"
        b"-A --sctp-service 10.96.55.1:3868 -s wlc\n"
    )
    for dumps in ((TEXT.encode(), saved), (saved, TEXT.encode())):
        world = decode.decode(Snapshot(tuple(Dump(f"d{i}{len(d)}", d, "n") for i, d in enumerate(dumps))))
        servers = world.nodes["n"].virtual_servers
        assert len(servers) == 5
        (real,) = next(s for s in servers if s.port == 30010).real
        assert (real.upper, real.active, real.inactive) == (9, 2, 5)
        assert next(s for s in servers if s.protocol == SCTP).at.origin.endswith(str(len(saved)))


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/ipvsadm-*.txt"):
        dump = Dump("x", path.read_bytes())
        decoder = decode.recognise(dump)
        assert decoder is not None
        assert ("ipvsadm-save" if path.name == "ipvsadm-save.txt" else "ipvsadm-list") == decoder.NAME
        assert list(decoder.decode(dump))
