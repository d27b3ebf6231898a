"""Netlink messages as they are on the wire, where reading them through pyroute2 would be too slow or cannot be done.

Sources: linux/netlink.h, linux/genetlink.h; net/netlink/af_netlink.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

from netk8s.errors import CollectError

ROUTE, SOCK_DIAG, NETFILTER, GENERIC = 0, 4, 12, 16
REQUEST, DUMP = 1, 0x300
_ERROR, _DONE, _INTERRUPTED = 2, 3, 0x10
# rtnetlink's groups (linux/rtnetlink.h, enum rtnetlink_groups).
LINKS, IPV4_ADDRESSES, IPV4_ROUTES, IPV4_RULES = 1, 5, 7, 8
IPV6_ADDRESSES, IPV6_ROUTES, IPV6_RULES, NEXTHOPS = 9, 11, 19, 32
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
PATIENCE = 10.0
_ROOM = 1 << 18
# What a kernel says that does not have what it was asked for: none of it is there.
_NOTHING = frozenset({0, errno.ENOENT, errno.EAFNOSUPPORT})


def asked(protocol: int, kind: int, body: bytes, flags: int = REQUEST | DUMP) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each message of an answer, in this namespace. Raises CollectError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
            sock.settimeout(PATIENCE)
            yield from talk(sock, kind, body, flags)
    except OSError as error:
        raise CollectError(error.strerror or str(error)) from None


def talk(sock: socket.socket, kind: int, body: bytes, flags: int = REQUEST | DUMP) -> Iterator[tuple[int, bytes]]:
    """The same on a socket that is there already. Raises OSError; EINTR for a dump that a change ran into."""
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    while True:
        for got, its_flags, payload in messages(sock.recv(_ROOM)):
            if its_flags & _INTERRUPTED:
                raise OSError(errno.EINTR, "what was asked for changed while it was read")
            if got == _DONE:
                return
            if got == _ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                if number in _NOTHING:
                    return
                raise OSError(number, os.strerror(number))
            yield got, payload
            if flags & DUMP != DUMP:
                return


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, payload) of each message in what one receipt gave."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags = struct.unpack_from("=IHH", data, at)
        if length < 16:
            return
        yield kind, flags, data[at + 16 : at + length]
        at += (length + 3) & ~3


def again(read: Callable[[], bytes], most: int = 5) -> bytes:
    """What a reading gives that no change ran into; the last one raises CollectError like any other."""
    for _ in range(most - 1):
        try:
            return read()
        except CollectError as error:
            if "changed while it was read" not in str(error):
                raise
    return read()


def listener(protocol: int, groups: tuple[int, ...]) -> socket.socket:
    """A socket that gets what the kernel tells these groups of this namespace. Raises CollectError."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    except OSError as error:
        raise CollectError(f"netlink: {error.strerror}") from None
    try:
        sock.bind((0, 0))
        for group in groups:
            sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise CollectError(f"netlink group: {error.strerror}") from None
    return sock


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)
