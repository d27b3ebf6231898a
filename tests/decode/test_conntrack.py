"""``conntrack -L``: entries with both tuples."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s import decode
from netk8s.decode import conntrack
from netk8s.errors import DecodeError
from netk8s.model import ICMP, TCP, UDP, At, Connections, ConntrackEntry, ConntrackTable, ConntrackTuple, Coverage, Dump

A = ip_address
TCP_LINE = (
    "tcp      6 117 TIME_WAIT src=10.244.0.120 dst=10.96.0.10 sport=46776 dport=9153 "
    "src=10.244.1.18 dst=10.244.0.120 sport=9153 dport=46776 [ASSURED] mark=0 use=1"
)


def entry(line: str) -> ConntrackEntry:
    (found,) = entries(line)
    return found


def listed(text: str) -> Connections:
    coverage, table = conntrack.decode(Dump("x", text.encode()))
    assert coverage == Coverage("conntrack", At("x"))
    assert isinstance(table, ConntrackTable)
    return table.connections


def entries(text: str) -> list[ConntrackEntry]:
    return list(listed(text))


def test_tcp() -> None:
    assert entry(TCP_LINE) == ConntrackEntry(
        TCP,
        ConntrackTuple(A("10.244.0.120"), A("10.96.0.10"), 46776, 9153),
        ConntrackTuple(A("10.244.1.18"), A("10.244.0.120"), 9153, 46776),
        "TIME_WAIT",
        117,
        0,
        0,
        ("ASSURED",),
        (("use", "1"),),
        At("x", 1),
    )


def test_unreplied_udp_with_a_zone_and_counts() -> None:
    """As printed with accounting on and a zone (conntrack-tools 1.4.6, `-o id`)."""
    found = entry(
        "udp      17 27 src=10.0.0.1 dst=10.0.0.2 sport=5 dport=53 packets=1 bytes=60 [UNREPLIED] src=10.0.0.2 "
        "dst=10.0.0.1 sport=53 dport=5 packets=0 bytes=0 mark=7 zone=3 use=1 id=99"
    )
    assert (found.protocol, found.state, found.flags, found.mark, found.zone) == (UDP, "", ("UNREPLIED",), 7, 3)
    assert (found.reply.sport, found.reply.extra) == (53, ())
    assert ("bytes", "60") in found.extra
    assert ("id", "99") in found.extra


def test_icmp_has_types_and_no_ports() -> None:
    found = entry(
        "icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=4 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=4 "
        "mark=0 use=1"
    )
    assert (found.protocol, found.original.sport) == (ICMP, None)
    assert found.original.extra == (("type", "8"), ("code", "0"), ("id", "4"))


def test_extended_ipv6_offloaded() -> None:
    """nf_conntrack in /proc, and `-o extended`; an offloaded flow has no timeout."""
    found = entry(
        "ipv6     10 tcp      6 src=fd00::1 dst=fd00::2 sport=1 dport=2 src=fd00::2 dst=fd00::1 sport=2 dport=1 "
        "[OFFLOAD] mark=0 zone=0 use=3"
    )
    assert (found.original.dst, found.timeout, found.flags) == (A("fd00::2"), None, ("OFFLOAD",))


def test_the_closing_count_is_no_entry() -> None:
    text = f"{TCP_LINE}\nconntrack v1.4.6 (conntrack-tools): 1 flow entries have been shown.\n"
    assert len(entries(text)) == 1


def test_sniff() -> None:
    assert conntrack.sniff(Dump("x", TCP_LINE.encode()))
    assert conntrack.sniff(Dump("x", b"conntrack v1.4.6 (conntrack-tools): 1 flow\n" + TCP_LINE.encode()))
    assert not conntrack.sniff(Dump("x", b"tcp   LISTEN 0 4096 *:10256 *:*\n"))
    assert not conntrack.sniff(Dump("x", b"default via 10.0.0.1 dev eth0 src 10.0.0.2\n"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("tcp six 1 src=10.0.0.1 dst=10.0.0.2", "a protocol and its number"),
        ("tcp 6 1 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2", "two src= words"),
        (TCP_LINE.replace("dst=10.96.0.10", "dst=name"), "addresses of one family"),
        (TCP_LINE.replace("dst=10.96.0.10", "dst=fd00::1"), "addresses of one family"),
        (TCP_LINE.replace("dport=9153", "dport=99999"), "not above 65535"),
        (TCP_LINE.replace("mark=0", "mark=x"), "mark= with a number"),
        (TCP_LINE.replace("[ASSURED]", "ASSURED"), "is not known"),
        ("tcp", "a protocol and its number"),
    ],
)
def test_wrong_lines(line: str, why: str) -> None:
    with pytest.raises(DecodeError, match=why) as error:
        entries(f"{TCP_LINE}\n{line}\n")
    assert error.value.line == 2


@given(st.lists(st.sampled_from([*TCP_LINE.split(), "ipv4", "2", "=", "src=", "[", "zone=1", "\n"]), max_size=30))
def test_any_words(words: list[str]) -> None:
    with contextlib.suppress(DecodeError):
        entries(" ".join(words))
    with contextlib.suppress(DecodeError):
        list(listed(" ".join(words)).having(ConntrackTuple(A("10.244.0.120"), A("10.96.0.10"), 46776, 9153)))
    with contextlib.suppress(DecodeError):
        list(listed(" ".join(words)).elsewhere(A("10.96.0.10"), 9153, ()))


def test_recorded_nodes(corpus: Path) -> None:
    seen = 0
    for path in corpus.glob("*/nodes/*/conntrack.txt"):
        dump = Dump("x", path.read_bytes())
        if dump.data.strip():
            decoder = decode.recognise(dump)
            assert decoder is not None
            assert decoder.NAME == "conntrack"
            found = entries(dump.data.decode())
            assert len(found) == len(dump.data.decode().splitlines())
            for one in found:
                for ends in (one.original, one.reply):
                    if ends.sport is not None:
                        assert one in listed(dump.data.decode()).having(ends)
            seen += len(found)
    assert seen


SECOND = (
    "udp      17 30 src=10.244.0.120 dst=10.96.0.10 sport=46776 dport=9153 [UNREPLIED] "
    "src=10.244.1.19 dst=10.244.0.120 sport=9153 dport=46776 mark=0 use=1"
)


def test_a_connection_is_found_by_the_ends_of_either_direction() -> None:
    text = f"{TCP_LINE}\n{SECOND}\n"
    there = ConntrackTuple(A("10.244.0.120"), A("10.96.0.10"), 46776, 9153)
    assert [e.at.line for e in listed(text).having(there)] == [1, 2]
    back = ConntrackTuple(A("10.244.1.19"), A("10.244.0.120"), 9153, 46776)
    assert [e.at.line for e in listed(text).having(back)] == [2]
    assert not list(listed(text).having(ConntrackTuple(A("10.244.0.120"), A("10.96.0.10"), 4677, 9153)))


def test_an_address_is_found_as_proc_spells_it() -> None:
    """/proc/net/nf_conntrack leaves out no zeros."""
    line = TCP_LINE.replace("10.244.0.120", "fd00:0000:0000:0000:0000:0000:0000:0001")
    line = line.replace("10.96.0.10", "fd00:0000:0000:0000:0000:0000:0000:000a").replace(
        "10.244.1.18", "fd00:0000:0000:0000:0000:0000:0000:0018"
    )
    assert len(list(listed(line).having(ConntrackTuple(A("fd00::1"), A("fd00::a"), 46776, 9153)))) == 1
    assert len(list(listed(line).elsewhere(A("fd00::a"), 9153, [A("fd00::17")]))) == 1
    assert not list(listed(line).elsewhere(A("fd00::a"), 9153, [A("fd00::18")]))


def test_connections_that_lead_elsewhere() -> None:
    text = f"{TCP_LINE}\n{SECOND}\n"
    assert [e.at.line for e in listed(text).elsewhere(A("10.96.0.10"), 9153, [A("10.244.1.18")])] == [2]
    assert [e.at.line for e in listed(text).elsewhere(A("10.96.0.10"), 9153, [])] == [1, 2]
    assert not list(listed(text).elsewhere(A("10.96.0.10"), 915, []))
    assert not list(listed(text).elsewhere(A("10.96.0.1"), 9153, []))
