"""The listening sockets as ``ss -Hlntu`` prints them: ss itself, else the kernel's sock_diag, which ss asks too.

Sources: linux/inet_diag.h, net/ipv4/inet_diag.c; iproute2's misc/ss.c for the words.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from netk8s.collect._text import Gap, Source, Text, command, first_of
from netk8s.collect.nfnetlink import attributes
from netk8s.errors import CollectError
from netk8s.model import TCP, UDP

NEEDED_FOR = "whether a process answers on the node itself"

NETLINK_SOCK_DIAG, BY_FAMILY, REQUEST, DUMP, ERROR, DONE = 4, 20, 1, 0x300, 2, 3
LISTEN, CLOSE = 10, 7
ASKED = ((TCP, "tcp", LISTEN, "LISTEN"), (UDP, "udp", CLOSE, "UNCONN"))
V6ONLY = 11
PATIENCE = 10.0


def texts() -> Iterator[Text | Gap]:
    yield first_of("listening.txt", command("ss", "-Hlntu"), Source("netlink (sock_diag)", listening))


def listening() -> bytes:
    """TCP sockets that listen and UDP sockets that are bound, in this namespace. Raises CollectError."""
    lines = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as asked:
            asked.settimeout(PATIENCE)
            for protocol, name, state, word in ASKED:
                for family in (socket.AF_INET, socket.AF_INET6):
                    lines += [f"{name:<5} {word} 0 0 {ends}" for ends in _sockets(asked, family, protocol, state)]
    except OSError as error:
        raise CollectError(error.strerror or str(error)) from None
    return "".join(f"{line}\n" for line in lines).encode()


def _sockets(asked: socket.socket, family: int, protocol: int, state: int) -> Iterator[str]:
    """Local and peer words of each socket; a peer of a UDP socket that is connected makes it no server."""
    body = struct.pack("=BBBxI", family, protocol, 0, 1 << state) + bytes(48)
    asked.send(struct.pack("=IHHII", 16 + len(body), BY_FAMILY, REQUEST | DUMP, 1, 0) + body)
    while True:
        data, at = asked.recv(1 << 16), 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            payload = data[at + 16 : at + length]
            at += max((length + 3) & ~3, 16)
            if kind == DONE:
                return
            if kind == ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                # A protocol or family that this kernel does not have has no sockets.
                if number in (0, errno.ENOENT, errno.EAFNOSUPPORT):
                    return
                raise OSError(number, os.strerror(number))
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
