"""``ipvsadm -Sn``: virtual servers with every option."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netk8s.decode import ipvsadm_list, ipvsadm_save
from netk8s.errors import DecodeError
from netk8s.model import SCTP, TCP, UDP, At, Coverage, Dump, RealServer, VirtualServer

A = ip_address
# Lines as ipvsadm.c 1.31 prints them (print_service_entry with FMT_RULE).
TEXT = b"""-A -t 10.96.0.1:443 -s rr
-a -t 10.96.0.1:443 -r 10.244.1.5:6443 -m -w 1
-a -t 10.96.0.1:443 -r 10.244.2.5:6443 -m -w 0
-A -u [fd00::a]:53 -s wrr -p 10800 -M 64
-a -u [fd00::a]:53 -r [fd00:1::5]:53 -g -w 3
-A --sctp-service 10.96.0.3:3868 -s mh -b mh-port,mh-fallback
-A -f 7 -s sh -p 300 -M 255.255.255.0
-a -f 7 -r 192.0.2.1:0 -i -w 2 -x 100 -y 10 --tun-type gue --tun-port 6080 --tun-nocsum
-A -f 8 -6 -s lc -o
"""


def servers(text: bytes) -> list[VirtualServer]:
    coverage, *found = ipvsadm_save.decode(Dump("x", text))
    assert coverage == Coverage("ipvs", At("x"))
    return [fact for fact in found if isinstance(fact, VirtualServer)]


def test_servers() -> None:
    tcp, udp, sctp, marked, marked6 = servers(TEXT)
    assert tcp == VirtualServer(
        4, TCP, A("10.96.0.1"), 443, "rr",
        real=(
            RealServer(A("10.244.1.5"), 6443, 1, "masq", at=At("x", 2)),
            RealServer(A("10.244.2.5"), 6443, 0, "masq", at=At("x", 3)),
        ),
        at=At("x", 1),
    )  # fmt: skip
    assert (udp.family, udp.protocol, udp.ip, udp.persistence, udp.mask) == (6, UDP, A("fd00::a"), 10800, 64)
    assert (udp.real[0].method, udp.real[0].weight) == ("route", 3)
    assert (sctp.protocol, sctp.flags, sctp.real) == (SCTP, ("mh-port", "mh-fallback"), ())
    assert (marked.family, marked.fwmark, marked.ip, marked.persistence, marked.mask) == (4, 7, None, 300, 24)
    assert (marked.real[0].method, marked.real[0].upper, marked.real[0].lower) == ("tunnel", 100, 10)
    assert (marked6.family, marked6.fwmark, marked6.scheduler, marked6.one_packet) == (6, 8, "lc", True)


def test_sniff() -> None:
    assert ipvsadm_save.sniff(Dump("x", TEXT))
    assert ipvsadm_save.sniff(Dump("x", b"-A --sctp-service 10.0.0.1:1 -s rr\n"))
    assert not ipvsadm_save.sniff(Dump("x", b"-A INPUT -t nat -j ACCEPT\n"))
    assert not ipvsadm_save.sniff(Dump("x", b"-A KUBE-SERVICES -d 10.0.0.1/32 -j X\n"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"-a -t 10.96.0.9:1 -r 10.0.0.1:1 -m -w 1", "which no -A line before it adds"),
        (b"-A -t 10.96.0.1:443 -s rr", "added twice"),
        (b"-A -t kubernetes:https -s rr", "address:port in numbers"),
        (b"-A -t 10.96.0.2:70000 -s rr", "address:port in numbers"),
        (b"-A -t 10.96.0.2:80 -s", "-s has no value"),
        (b"-A -t 10.96.0.2:80 --odd", "is not known"),
        (b"-a -t 10.96.0.1:443 -r 10.0.0.1:1 -w many", "a weight as a number"),
        (b"-A -t", "expected -t"),
        (b"-D -t 10.96.0.1:443", "expected -A or -a"),
        (b"-A -t 10.96.0.2:80 -s rr -p 5 -M 1.2.3", "network mask"),
    ],
)
def test_wrong_lines(line: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why) as error:
        servers(TEXT + line + b"\n")
    assert error.value.line == 10


@given(st.lists(st.sampled_from([*TEXT.decode().split(), "-p", "ipvsadm", "[", "]", ":", "\n"]), max_size=40))
def test_any_words(words: list[str]) -> None:
    for decoder in (ipvsadm_save, ipvsadm_list):
        with contextlib.suppress(DecodeError):
            list(decoder.decode(Dump("x", " ".join(words).encode())))


def test_recorded_nodes(corpus: Path) -> None:
    """Both forms of ipvsadm's output, taken in the same moment, tell the same."""
    for path in corpus.glob("*/nodes/*/ipvsadm-save.txt"):
        saved = servers(path.read_bytes())
        listed = [
            f
            for f in ipvsadm_list.decode(Dump("y", path.with_name("ipvsadm-Ln.txt").read_bytes()))
            if isinstance(f, VirtualServer)
        ]
        assert [_shape(s) for s in saved] == [_shape(s) for s in listed]
        assert saved


def _shape(server: VirtualServer) -> tuple[object, ...]:
    real = [(r.ip, r.port, r.weight, r.method) for r in server.real]
    return (server.protocol, server.ip, server.port, server.scheduler, server.persistence, server.mask, real)
