"""nfnetlink, as far as a trace needs it: the kernel's traces of both backends, rule handles, one conntrack entry.

Sources: linux/netfilter/nfnetlink.h, nf_tables.h, nfnetlink_log.h, nfnetlink_conntrack.h. Read from netlink and not
from xtables-monitor: that is missing on nodes with iptables-legacy, and prints IPv6 rules wrongly (1.8.9).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct

from netk8s.collect import _wire
from netk8s.errors import CollectError
from netk8s.model import Addr, ConntrackEntry, ConntrackTuple, Packet

NETLINK_NETFILTER = 12
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
SO_RCVBUFFORCE = 33
CTNETLINK, ULOG, NFTABLES = 1, 4, 10
NFT_MSG_GETRULE, NFT_MSG_TRACE = 7, 17
NFNLGRP_NFTRACE = 9
REQUEST, ACK, DUMP = 1, 4, 0x300
ERROR, DONE = 2, 3
FAMILIES = {2: 4, 10: 6}
NFPROTO = {4: 2, 6: 10}

TRACE_KINDS = {1: "policy", 2: "return", 3: "rule"}
# Verdicts as they are counted: netfilter.h and nf_tables.h.
CODES = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue", 4: "repeat",
    -1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return",
}  # fmt: skip


class TraceEvent(Struct, frozen=True):
    """One line of a kernel's trace. ``handle`` is nft's rule handle, ``number`` the legacy rule number, from 1.

    ``family`` is that of the table: 4, 6, or 0 for a table of both. ``header``: the packet from its IP header on, as
    far as it was copied; nft gives it with the first event of each base chain, so it is empty on the others. ``iif``,
    ``oif``: device indexes, 0 for none.
    """

    backend: str
    family: int
    table: str
    chain: str
    kind: str
    action: str
    handle: int
    number: int
    trace_id: int
    header: bytes
    iif: int
    oif: int
    mark: int


def open_socket() -> socket.socket:
    """A netlink socket in the namespace we are in. Raises CollectError."""
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        # The usual limit (rmem_max) holds a few hundred events, and one packet can make more.
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        sock.bind((0, 0))
    except OSError as error:
        raise CollectError(f"the kernel cannot be asked (nfnetlink): {error.strerror}; that needs root") from None
    return sock


class NftTrace:
    """What ``nft monitor trace`` reads: the trace group of this namespace."""

    def __init__(self) -> None:
        self._socket = open_socket()
        self._socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, NFNLGRP_NFTRACE)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> Iterator[TraceEvent]:
        """The events that are there; does not wait."""
        for family, kind, found in _received(self._socket):
            if kind == (NFTABLES << 8 | NFT_MSG_TRACE):
                yield _nft_event(family, found)


def _nft_event(family: int, found: Mapping[int, bytes]) -> TraceEvent:
    verdict = attributes(found.get(5, b""))
    code = _number(verdict.get(1), signed=True)
    action = CODES.get(code & 0xFF if code >= 0 else code, str(code))
    kind = TRACE_KINDS.get(_number(found.get(4)), "?")
    if kind == "policy":
        action = CODES.get(_number(found.get(16)), "accept")
    elif code in (-3, -4) and 2 in verdict:
        action = f"{action} {_text(verdict[2])}"
    return TraceEvent(
        "nft", FAMILIES.get(family, 0), _text(found.get(1, b"")), _text(found.get(2, b"")), kind, action,
        _number(found.get(3)), 0, _number(found.get(6)), found.get(8, b"") + found.get(9, b""),
        _number(found.get(10)), _number(found.get(12)), _number(found.get(14)),
    )  # fmt: skip


class LegacyTrace:
    """What the legacy tables say of a packet with the trace bit, through nfnetlink_log.

    The kernel sends it to group 0 of the namespace's logger (nf_log_trace); which logger that is says the sysctl
    net.netfilter.nf_log.2, and setting it is not done here. Raises CollectError.
    """

    def __init__(self) -> None:
        self._socket = open_socket()
        try:
            self._configure(_wire.attribute(1, struct.pack("=B", 1)))  # bind
            self._configure(_wire.attribute(2, struct.pack("!IBB", 128, 2, 0)))  # copy the first 128 bytes
            # One message at a time: otherwise the kernel holds events back until its timer runs out.
            self._configure(_wire.attribute(5, struct.pack("!I", 1)))
        except OSError as error:
            self._socket.close()
            why = "another process has it (ulogd?)" if error.errno == errno.EBUSY else error.strerror
            raise CollectError(
                f"group 0 of nfnetlink_log cannot be read, where legacy tables are traced: {why}"
            ) from None
        self._socket.setblocking(False)

    def _configure(self, body: bytes) -> None:
        self._socket.send(_message(ULOG << 8 | 1, REQUEST | ACK, 0, 0, body))
        _confirm(self._socket)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> Iterator[TraceEvent]:
        """The events that are there; does not wait."""
        for family, kind, found in _received(self._socket):
            if kind != (ULOG << 8):
                continue
            words = _text(found.get(10, b"")).strip().removeprefix("TRACE: ").split(":")
            if len(words) != 4 or not words[3].isdigit():
                continue
            table, chain, what, number = words
            yield TraceEvent(
                "legacy", FAMILIES.get(family, 0), table, chain, what, "", 0, int(number), 0, found.get(9, b""),
                _number(found.get(4)), _number(found.get(5)), _number(found.get(2)),
            )  # fmt: skip


class Place(Struct, frozen=True):
    """Where a rule of nftables stands: its chain and its position in it, from 1."""

    chain: str
    position: int


def rule_places(family: int) -> dict[tuple[str, int], Place]:
    """(table, handle) → place of every rule in the tables of one family (iptables-nft's: 4 or 6; 0: inet)."""
    places: dict[tuple[str, int], Place] = {}
    counts: dict[tuple[str, str], int] = {}
    with open_socket() as sock:
        sock.send(_message(NFTABLES << 8 | NFT_MSG_GETRULE, REQUEST | DUMP, NFPROTO.get(family, 1), 0))
        while True:
            for kind, _, payload in _wire.messages(sock.recv(1 << 18)):
                if kind in (DONE, ERROR):
                    return places
                found = attributes(payload[4:])
                table, chain = _text(found[1]), _text(found[2])
                counts[table, chain] = counts.get((table, chain), 0) + 1
                places[table, _number(found[3])] = Place(chain, counts[table, chain])


def conntrack_entry(packet: Packet) -> ConntrackEntry | None:
    """The entry whose original direction is this packet's, None if there is none."""
    ip = (1, 2) if packet.family == 4 else (3, 4)
    addresses = _wire.attribute(ip[0], packet.src.packed) + _wire.attribute(ip[1], packet.dst.packed)
    ports = struct.pack("!H", packet.sport or 0), struct.pack("!H", packet.dport or 0)
    protocol = (
        _wire.attribute(1, struct.pack("=B", packet.protocol))
        + _wire.attribute(2, ports[0])
        + _wire.attribute(3, ports[1])
    )
    original = _wire.attribute(1 | _NESTED, addresses) + _wire.attribute(2 | _NESTED, protocol)
    with open_socket() as sock:
        sock.send(
            _message(CTNETLINK << 8 | 1, REQUEST, NFPROTO[packet.family], 0, _wire.attribute(1 | _NESTED, original))
        )
        for kind, _, payload in _wire.messages(sock.recv(1 << 16)):
            if kind == (CTNETLINK << 8):
                found = attributes(payload[4:])
                if 1 in found and 2 in found:
                    mark = _number(found[8]) if 8 in found else None
                    # IPS_SEEN_REPLY (nf_conntrack_common.h)
                    flags = () if _number(found.get(3)) & 2 else ("UNREPLIED",)
                    ends = _tuple(found[1]), _tuple(found[2])
                    return ConntrackEntry(packet.protocol, *ends, mark=mark, flags=flags)
    return None


def _tuple(data: bytes) -> ConntrackTuple:
    found = attributes(data)
    ip, protocol = attributes(found.get(1, b"")), attributes(found.get(2, b""))
    make: type[IPv4Address] | type[IPv6Address] = IPv4Address if 1 in ip else IPv6Address
    src, dst = (ip[1], ip[2]) if 1 in ip else (ip[3], ip[4])
    ends: tuple[Addr, Addr] = (make(src), make(dst))
    sport, dport = (_number(protocol[key]) if key in protocol else None for key in (2, 3))
    return ConntrackTuple(*ends, sport, dport)


# ---------------------------------------------------------------- messages

_NESTED = 0x8000


def attributes(data: bytes) -> dict[int, bytes]:
    """Netlink attributes by number."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _message(kind: int, flags: int, family: int, resource: int, body: bytes = b"") -> bytes:
    payload = struct.pack("!BBH", family, 0, resource) + body
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload


def _received(sock: socket.socket) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    """(family, kind, attributes) of the messages that are there."""
    while True:
        try:
            data = sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise CollectError(
                    "the kernel's trace came faster than it could be read, and part of it is lost"
                ) from None
            raise
        for kind, _, payload in _wire.messages(data):
            yield payload[0] if payload else 0, kind, attributes(payload[4:])


def _confirm(sock: socket.socket) -> None:
    """Waits for the kernel's ACK and raises what it says."""
    for kind, _, payload in _wire.messages(sock.recv(1 << 16)):
        if kind == ERROR:
            code = -struct.unpack_from("=i", payload)[0]
            if code:
                raise OSError(code, os.strerror(code))


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("utf-8", "replace")


def _number(value: bytes | None, *, signed: bool = False) -> int:
    return int.from_bytes(value, "big", signed=signed) if value else 0
