"""The few nfnetlink messages the lab needs: the kernel's own packet traces, rule handles, conntrack flush.

Both backends' traces are read from netlink and not from ``xtables-monitor``: no process to start, no text to wait for,
and it prints IPv6 rules wrongly (1.8.9).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_NETFILTER = 12
SOL_NETLINK, ADD_MEMBERSHIP, NETLINK_NO_ENOBUFS = 270, 1, 5
SUBSYS_CTNETLINK, SUBSYS_ULOG, SUBSYS_NFTABLES = 1, 4, 10
NFT_MSG_GETRULE, NFT_MSG_TRACE, NFT_MSG_NEWRULE = 7, 17, 6
NFNLGRP_NFTRACE = 9
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RECEIVE_BUFFER = 8 << 20

TRACE_TYPES = {1: "policy", 2: "return", 3: "rule"}


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One line of a kernel trace. ``handle`` is nft's rule handle, ``number`` the legacy rule number.

    ``header`` is the packet from its IP header on, as far as the kernel copied it; nft gives it only with the first
    event of a base chain, so it is empty on the others. Devices are indexes, 0 for none. ``nfproto`` is the nft table's
    family (1 inet, 2 ip, 10 ip6), ``verdict`` nft's own number of what the rule or policy said, 0 is drop.
    """

    backend: str
    family: int
    table: str
    chain: str
    kind: str
    handle: int
    number: int
    trace_id: int
    header: bytes
    iif: int
    oif: int
    mark: int
    nfproto: int = 0
    verdict: int | None = None


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = b"\0" * (-len(payload) % 4)
    return struct.pack("=HH", 4 + len(payload), kind) + payload + padding


def _message(subsystem: int, kind: int, flags: int, family: int, resource: int, body: bytes = b"") -> bytes:
    payload = struct.pack("!BBH", family, 0, resource) + body
    return struct.pack("=IHHII", 16 + len(payload), (subsystem << 8) | kind, flags, 1, 0) + payload


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        yield kind, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    # FORCE: the default limit (rmem_max) holds a few hundred events, and one packet can make more.
    sock.setsockopt(socket.SOL_SOCKET, 33, RECEIVE_BUFFER)
    sock.bind((0, 0))
    return sock


def _confirm(sock: socket.socket) -> None:
    """Waits for the kernel's ACK and raises what it says."""
    for kind, payload in _messages(sock.recv(1 << 16)):
        if kind == NLMSG_ERROR:
            code = struct.unpack_from("=i", payload)[0]
            if code:
                raise OSError(-code, os.strerror(-code))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _number(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value else 0


class LegacyTrace:
    """What the xtables TRACE bit makes the legacy tables say, through nfnetlink_log.

    The kernel's trace uses the default log group 0 of the namespace's logger; both families' logger is set by the
    PF_BIND command (what the sysctl net.netfilter.nf_log.2 does), for this namespace alone.
    """

    def __init__(self) -> None:
        self.socket = _open()
        for family in (socket.AF_INET, socket.AF_INET6):
            self._config(family, 0, _attribute(1, struct.pack("=B", 4)))
            self._config(family, 0, _attribute(1, struct.pack("=B", 3)))
        self._config(0, 0, _attribute(1, struct.pack("=B", 1)))
        self._config(0, 0, _attribute(2, struct.pack("!IBB", 128, 2, 0)))
        # A threshold of one message: otherwise the kernel holds events back until its timer runs out.
        self._config(0, 0, _attribute(5, struct.pack("!I", 1)))
        self.socket.setblocking(False)

    def _config(self, family: int, group: int, body: bytes) -> None:
        self.socket.send(_message(SUBSYS_ULOG, 1, NLM_F_REQUEST | NLM_F_ACK, family, group, body))
        _confirm(self.socket)

    def close(self) -> None:
        self.socket.close()

    def read(self) -> Iterator[TraceEvent]:
        """The events that are there; does not wait."""
        while True:
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                return
            for kind, payload in _messages(data):
                if kind != (SUBSYS_ULOG << 8):
                    continue
                found = _attributes(payload[4:])
                words = _text(found.get(10, b"")).strip()
                if not words.startswith("TRACE: "):
                    continue
                table, chain, what, number = words[7:].split(":")
                yield TraceEvent(
                    "legacy",
                    4 if payload[0] == socket.AF_INET else 6,
                    table,
                    chain,
                    what,
                    0,
                    int(number),
                    0,
                    found.get(9, b""),
                    _number(found.get(4)),
                    _number(found.get(5)),
                    _number(found.get(2)),
                )


class NftTrace:
    """``nft monitor trace`` without nft: the multicast group of the namespace."""

    def __init__(self) -> None:
        self.socket = _open()
        self.socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, NFNLGRP_NFTRACE)
        self.socket.setblocking(False)

    def close(self) -> None:
        self.socket.close()

    def read(self) -> Iterator[TraceEvent]:
        """The events that are there; does not wait."""
        while True:
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                return
            for kind, payload in _messages(data):
                if kind != ((SUBSYS_NFTABLES << 8) | NFT_MSG_TRACE):
                    continue
                found = _attributes(payload[4:])
                # Of an inet table the family is 1; the packet's own version tells which.
                header = found.get(8, b"") + found.get(9, b"")
                version = header[0] >> 4 if header else 0
                yield TraceEvent(
                    "nft",
                    version,
                    _text(found.get(1, b"")),
                    _text(found.get(2, b"")),
                    TRACE_TYPES.get(_number(found.get(4)), "?"),
                    _number(found.get(3)),
                    0,
                    _number(found.get(6)),
                    header,
                    _number(found.get(10)),
                    _number(found.get(12)),
                    _number(found.get(14)),
                    payload[0],
                    _verdict(found),
                )


def _verdict(found: dict[int, bytes]) -> int | None:
    code = _attributes(found.get(5, b"")).get(1) or found.get(16)
    return struct.unpack("!i", code)[0] if code else None


def nft_rule_handles() -> dict[tuple[int, str, int], tuple[str, int]]:
    """(table's family, table, handle) → (chain, position from 1) of every nft rule, those of iptables-nft too."""
    sock = _open()
    try:
        sock.send(_message(SUBSYS_NFTABLES, NFT_MSG_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, socket.AF_UNSPEC, 0))
        places: dict[tuple[int, str, int], tuple[str, int]] = {}
        counts: dict[tuple[int, str, str], int] = {}
        while True:
            for kind, payload in _messages(sock.recv(1 << 18)):
                if kind == NLMSG_DONE:
                    return places
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    raise OSError(code, os.strerror(code))
                found = _attributes(payload[4:])
                family, table, chain = payload[0], _text(found[1]), _text(found[2])
                counts[family, table, chain] = counts.get((family, table, chain), 0) + 1
                places[family, table, _number(found[3])] = (chain, counts[family, table, chain])
    finally:
        sock.close()


def flush_conntrack() -> None:
    """Forgets every connection of the namespace."""
    sock = _open()
    try:
        sock.send(_message(SUBSYS_CTNETLINK, 2, NLM_F_REQUEST | NLM_F_ACK, 0, 0))
        _confirm(sock)
    finally:
        sock.close()
