"""A legacy table as the kernel holds it, without its counters: cheap to compare, and nothing to read rules from.

Sources: linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h, linux/netfilter/x_tables.h;
net/ipv4/netfilter/ip_tables.c (get_info, get_entries). What an extension keeps to itself is blanked by the kernel
(xt_data_to_user, Linux 4.11).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from hashlib import blake2b

from netk8s.errors import CollectError

GET_INFO, GET_ENTRIES = 64, 65
INFO = struct.Struct("=32sI5I5III")
HEADER = struct.Struct("@32sI0Q")
# Where an entry has the offset of the next one, and its counters (struct ipt_entry, struct ip6t_entry).
PLACES = {4: (90, 96), 6: (142, 152)}
COUNTERS = 16
LEVELS = {4: (socket.AF_INET, socket.IPPROTO_IP), 6: (socket.AF_INET6, socket.IPPROTO_IPV6)}
TRIES = 5


def signature(family: int, table: str) -> bytes:
    """A digest of a table that is registered; asking for another one would register it. Raises CollectError."""
    kind, level = LEVELS[family]
    try:
        with socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            for _ in range(TRIES):
                info = bytearray(INFO.pack(table.encode(), *(0,) * 13))
                _asked(sock, level, GET_INFO, info)
                size = INFO.unpack(info)[-1]
                # 100,000 rules are 50 MB here: they are written to once and copied nowhere.
                entries = bytearray(HEADER.size + size)
                HEADER.pack_into(entries, 0, table.encode(), size)
                try:
                    _asked(sock, level, GET_ENTRIES, entries)
                except BlockingIOError:
                    continue  # The table was replaced by one of another size in between.
                _uncount(entries, *PLACES[family])
                digest = blake2b(info)
                digest.update(entries)
                return digest.digest()
    except OSError as error:
        raise CollectError(f"the legacy {table} table: {error.strerror}; that needs root") from None
    raise CollectError(f"the legacy {table} table changes faster than it can be read")


def _uncount(entries: bytearray, following: int, counters: int) -> None:
    at, blank = HEADER.size, bytes(COUNTERS)
    length = struct.Struct("=H").unpack_from
    while at + counters + COUNTERS <= len(entries):
        entries[at + counters : at + counters + COUNTERS] = blank
        step = length(entries, at + following)[0]
        if not step:
            break
        at += step


def _asked(sock: socket.socket, level: int, option: int, data: bytearray) -> None:
    """getsockopt(2) in place; Python's own gives no more than 1024 bytes."""
    room = (ctypes.c_char * len(data)).from_buffer(data)
    length = ctypes.c_uint32(len(data))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(sock.fileno(), level, option, room, ctypes.byref(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
