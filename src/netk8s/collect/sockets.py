"""The listening sockets as ``ss -Hlntu`` prints them: ss itself, else the kernel's sock_diag, which ss asks too.

Sources: linux/inet_diag.h, net/ipv4/inet_diag.c; iproute2's misc/ss.c for the words.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from netk8s.collect import _wire
from netk8s.collect._text import Gap, Source, Text, command, first_of
from netk8s.collect.nfnetlink import attributes
from netk8s.model import TCP, UDP

NEEDED_FOR = "whether a process answers on the node itself"

BY_FAMILY = 20
LISTEN, CLOSE = 10, 7
ASKED = ((TCP, "tcp", LISTEN, "LISTEN"), (UDP, "udp", CLOSE, "UNCONN"))
V6ONLY = 11


def texts() -> Iterator[Text | Gap]:
    yield first_of("listening.txt", command("ss", "-Hlntu"), Source("netlink (sock_diag)", listening))


def signature() -> bytes:
    return listening()


def listening() -> bytes:
    """TCP sockets that listen and UDP sockets that are bound, in this namespace. Raises CollectError."""
    return "".join(
        f"{name:<5} {word} 0 0 {ends}\n"
        for protocol, name, state, word in ASKED
        for family in (socket.AF_INET, socket.AF_INET6)
        for ends in _sockets(family, protocol, state)
    ).encode()


def _sockets(family: int, protocol: int, state: int) -> Iterator[str]:
    """Local and peer words of each socket; a peer of a UDP socket that is connected makes it no server."""
    body = struct.pack("=BBBxI", family, protocol, 0, 1 << state) + bytes(48)
    for _, payload in _wire.asked(_wire.SOCK_DIAG, BY_FAMILY, body):
        yield _ends(payload)


def _ends(message: bytes) -> str:
    six = message[0] == socket.AF_INET6
    port = struct.unpack_from("!H", message, 4)[0]
    address: IPv4Address | IPv6Address = IPv6Address(message[8:24]) if six else IPv4Address(message[8:12])
    index = struct.unpack_from("=I", message, 40)[0]
    only = attributes(message[72:]).get(V6ONLY, b"\0") != b"\0"
    host = f"[{address}]" if six else str(address)
    if six and address.is_unspecified and not only:
        host = "*"
    device = ""
    if index:
        with suppress(OSError):
            device = f"%{socket.if_indextoname(index)}"
    return f"{host}{device}:{port} {'*' if host == '*' else '[::]' if six else '0.0.0.0'}:*"  # noqa: S104 (ss's word for no peer)
