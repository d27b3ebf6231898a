"""collect/connections.py: conntrack's words for what ctnetlink says, and the same facts as conntrack -L."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from netk8s.collect import connections
from netk8s.collect._text import Gap
from netk8s.model import At, ConntrackTable

RULES = """
table ip nat {
    chain output {
        type nat hook output priority -100;
        ip daddr 127.0.0.9 dnat to 127.0.0.1
    }
}
table inet filter {
    chain output {
        type filter hook output priority 0;
        ct mark set 7
    }
}
"""
CONNECTIONS = """
import json, socket, subprocess
from netk8s.collect import connections
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.sendto(b"x", ("127.0.0.9", 5353))
server = socket.socket()
server.bind(("127.0.0.1", 8080))
server.listen()
client = socket.create_connection(("127.0.0.9", 8080))
accepted, _ = server.accept()
client.send(b"x")
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.sendto(b"x", ("::1", 5353))
# An echo request of each family, a protocol without a tracker, GRE.
for family, protocol, host, data in (
    (socket.AF_INET, 1, "127.0.0.1", b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0"),
    (socket.AF_INET6, 58, "::1", b"\\x80\\0\\xf7\\xff\\0\\0\\0\\0"),
    (socket.AF_INET, 99, "127.0.0.1", b"12345678"),
    (socket.AF_INET, 47, "127.0.0.1", b"\\0\\0\\x08\\0\\0\\0\\0\\0"),
):
    socket.socket(family, socket.SOCK_RAW, protocol).sendto(data, (host, 0))
for words in (
    "-p udp --sport 1 --dport 2 -w 5 -u ASSURED,SEEN_REPLY -m 3",
    "-p sctp --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
):
    subprocess.run(["conntrack", "-I", "-s", "10.0.0.1", "-d", "10.0.0.2", "-t", "100", *words.split()],
                   capture_output=True, check=True)
print(json.dumps([connections.listed().decode(), connections._by_command().decode()]))
"""


@pytest.mark.lab
def test_ctnetlink_says_what_conntrack_says(
    spaces: Callable[[], Any], differences: Callable[..., tuple[list[str], list[str]]], tmp_path: Path
) -> None:
    space = spaces()
    (tmp_path / "rules").write_text(RULES)
    space.run("nft", "-f", str(tmp_path / "rules"))
    space.run("sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1")
    ours, theirs = (text.encode() for text in json.loads(space.python(CONNECTIONS)))
    assert words_of(ours) == words_of(theirs)
    assert sorted(line.split()[2] for line in theirs.decode().splitlines()) == sorted(
        ["udp", "tcp", "udp", "icmp", "icmpv6", "unknown", "gre", "udp", "sctp"]
    )
    # Word by word too, but for the time that is left.
    assert words_of(ours) == words_of(theirs)


def without_time(fact: Any) -> Any:
    """The entries of a table, but for the time that each has left."""
    if not isinstance(fact, ConntrackTable):
        return fact
    return sorted(repr(replace(entry, timeout=None, at=At(""))) for entry in fact.connections)


def words_of(text: bytes) -> list[list[str]]:
    return sorted([*line.split()[:4], *line.split()[5:]] for line in text.decode().splitlines())


def nested(number: int, *values: bytes) -> bytes:
    data = b"".join(values)
    return (4 + len(data)).to_bytes(2, "little") + number.to_bytes(2, "little") + data + bytes(-len(data) % 4)


def of(protocol: int, ports: bytes) -> tuple[bytes, bytes]:
    addresses = nested(1, nested(1, bytes((10, 0, 0, 1))), nested(2, bytes((10, 0, 0, 2))))
    return addresses, nested(2, nested(1, bytes((protocol,))), ports)


def test_a_connection_in_conntracks_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.byteorder", "little")
    ports = nested(2, (1).to_bytes(2, "big")) + nested(3, (2).to_bytes(2, "big"))
    both = b"".join(of(6, ports))
    found = {
        connections.ORIGINAL: both,
        connections.REPLY: both,
        connections.STATUS: (0b1100).to_bytes(4, "big"),
        connections.PROTOINFO: nested(1, nested(1, b"\x03")),
        connections.TIMEOUT: (9).to_bytes(4, "big"),
    }
    assert connections._line(found) == (
        "ipv4     2 tcp      6 9 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 [UNREPLIED] "
        "src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 [ASSURED]"
    )


@pytest.mark.usefixtures("bare")
def test_no_reader_is_a_gap() -> None:
    (gap,) = connections.texts()
    assert isinstance(gap, Gap)
    assert "not installed" in gap.why
