"""One connection over lo: its addresses are known before it is made, and what came of it behind it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from netk8s.collect import connection
from netk8s.collect.connection import Came
from netk8s.errors import UsageError
from netk8s.model import SCTP, TCP, UDP

HERE = ip_address("127.0.0.1")


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind((str(HERE), 0))
        sock.listen()
        yield sock.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port that is taken and nobody listens at."""
    with socket.socket() as sock:
        sock.bind((str(HERE), 0))
        yield sock.getsockname()[1]


def test_a_connection(listening: int) -> None:
    with connection.reserve(TCP, HERE, listening) as one:
        assert one.packet.src == one.packet.dst == HERE
        assert one.packet.sport not in (None, 0)
        assert one.packet.dport == listening
        assert one.send(2) == Came("connected", "syn-ack")


def test_refused(closed: int) -> None:
    with connection.reserve(TCP, HERE, closed) as one:
        assert one.send(2) == Came("refused", "tcp-reset")
    with connection.reserve(UDP, HERE, closed) as one:
        assert one.send(2) == Came("refused", "icmp 3/3")


def test_silence() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((str(HERE), 0))
        with connection.reserve(UDP, HERE, sock.getsockname()[1]) as one:
            assert one.send(0.1) == Came("timeout")
        assert sock.recv(100) == connection.PAYLOAD


@pytest.mark.parametrize("text", ["224.0.0.1", "ff02::1", "255.255.255.255", "0.0.0.0", "::"])  # noqa: S104
def test_nothing_is_sent_to_many(text: str) -> None:
    with pytest.raises(UsageError, match="not the address of one host"):
        connection.reserve(TCP, ip_address(text), 80)


def test_only_what_can_be_sent() -> None:
    with pytest.raises(UsageError, match="sctp cannot be sent"):
        connection.reserve(SCTP, HERE, 80)
