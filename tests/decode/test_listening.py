"""Listening sockets: what ss prints with and without header, columns and processes."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from netk8s.decode import listening
from netk8s.errors import DecodeError
from netk8s.model import SCTP, TCP, UDP, At, Coverage, Dump, Socket

SS = b"""Netid State  Recv-Q Send-Q              Local Address:Port  Peer Address:PortProcess
udp   UNCONN 0      0                  127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=1,fd=13))
udp   UNCONN 0      0         [fe80::1]%eth0:546                   [::]:*
tcp   LISTEN 0      4096                   127.0.0.1:10249 0.0.0.0:* users:(("kube-proxy",pid=9,fd=1),("x",pid=8,fd=1))
\t ino:1234 sk:1
tcp   LISTEN 0      4096                           *:10256            *:*
tcp   LISTEN 0      128                      0.0.0.0:22         0.0.0.0:*
tcp   LISTEN 0      128                         [::]:22            [::]:*
tcp   LISTEN 0      128           [::ffff:127.0.0.1]:81               *:*
tcp   ESTAB  0      0                      10.0.0.1:22       10.0.0.2:5000
sctp  LISTEN 0      128                 10.0.0.1%eth0:9           0.0.0.0:*
u_str LISTEN 0      4096 /run/x.sock 12345 * 0
"""


def sockets(data: bytes) -> list[Socket]:
    return [fact for fact in listening.decode(Dump("x", data)) if isinstance(fact, Socket)]


def test_ss() -> None:
    assert sockets(SS) == [
        Socket(UDP, ip_address("127.0.0.53"), 53, (4,), "lo", "systemd-resolve", At("x", 2)),
        Socket(UDP, ip_address("fe80::1"), 546, (6,), "eth0", None, At("x", 3)),
        Socket(TCP, ip_address("127.0.0.1"), 10249, (4,), None, "kube-proxy", At("x", 4)),
        Socket(TCP, None, 10256, (4, 6), None, None, At("x", 6)),
        Socket(TCP, None, 22, (4,), None, None, At("x", 7)),
        Socket(TCP, None, 22, (6,), None, None, At("x", 8)),
        Socket(TCP, ip_address("127.0.0.1"), 81, (4,), None, None, At("x", 9)),
        Socket(SCTP, ip_address("10.0.0.1"), 9, (4,), "eth0", None, At("x", 11)),
    ]


def test_three_words() -> None:
    found = sockets(b"tcp LISTEN *:10256\nudp UNCONN 0.0.0.0:8472\r\n")
    assert [(socket.protocol, socket.ip, socket.port, socket.families) for socket in found] == [
        (TCP, None, 10256, (4, 6)),
        (UDP, None, 8472, (4,)),
    ]


def test_tcp_alone_has_no_protocol_column() -> None:
    text = (
        b"State  Recv-Q Send-Q Local Address:Port Peer Address:Port\nLISTEN 0 128 *:80 *:*\nUNCONN 0 0 [::]:53 [::]:*\n"
    )
    assert listening.sniff(Dump("x", text))
    assert [(socket.protocol, socket.port) for socket in sockets(text)] == [(TCP, 80), (UDP, 53)]


def test_coverage_without_any_socket() -> None:
    header = SS.splitlines()[0]
    assert listening.sniff(Dump("x", header))
    assert list(listening.decode(Dump("x", header))) == [Coverage("socket", At("x"))]


@pytest.mark.parametrize(
    "line",
    [
        b"tcp LISTEN 0 128 *:http *:*",
        b"tcp LISTEN 0 128 host.example:80 *:*",
        b"tcp LISTEN 0 128 *:99999 *:*",
        b"tcp LISTEN",
        b"tcp listening on 80",
        b"bash: ss: command not found",
    ],
)
def test_wrong_lines(line: bytes) -> None:
    with pytest.raises(DecodeError) as error:
        list(listening.decode(Dump("x", b"tcp LISTEN *:1\n" + line)))
    assert error.value.line == 2
    assert "ss" in error.value.why or "expected" in error.value.why


def test_recorded_nodes(corpus: Path) -> None:
    for path in corpus.glob("*/nodes/*/listening.txt"):
        data = path.read_bytes()
        if data.strip():
            assert listening.sniff(Dump(str(path), data))
            assert len(sockets(data)) == len(data.splitlines())


def test_what_ss_says_on_standard_error_is_passed_over() -> None:
    text = b"RTNETLINK answers: Invalid argument\nNetid State Recv-Q Send-Q Local Address:Port Peer Address:Port\n"
    dump = Dump("x", text + b"tcp LISTEN 0 128 127.0.0.1:8080 0.0.0.0:*\nRTNETLINK answers: Invalid argument\n")
    assert listening.sniff(dump)
    assert [fact.port for fact in listening.decode(dump) if isinstance(fact, Socket)] == [8080]
