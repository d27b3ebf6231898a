"""Listening sockets as ``ss -lntu`` prints them (iproute2's misc/ss.c), whole or cut down to three words a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

from netk8s.decode._text import first_lines, lines
from netk8s.errors import DecodeError
from netk8s.model import SCTP, TCP, UDP, Addr, At, Coverage, Dump, Fact, Socket

NAME = "listening"

_PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
_NETIDS = frozenset({
    "tcp", "udp", "sctp", "raw", "dccp", "mptcp", "nl", "p_raw", "p_dgr", "u_str", "u_dgr", "u_seq", "v_str", "v_dgr",
    "ti_st", "ti_dg", "ti_sq", "ti_rd", "xdp", "icmp6", "???",
})  # fmt: skip
_STATES = frozenset({
    "LISTEN", "UNCONN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "CLOSE", "CLOSED",
    "CLOSE-WAIT", "LAST-ACK", "CLOSING", "NEW-SYN-RECV", "UNKNOWN",
})  # fmt: skip
_PROCESS = re.compile(r'users:\(\("((?:[^"\\]|\\.)*)"')
# What ss says on standard error of kinds of sockets that the kernel has no module for.
_NOISE = re.compile(r"RTNETLINK answers: ")
_HEADER = re.compile(r"(?:Netid\s+)?State\s+Recv-Q\s+Send-Q\s")


def sniff(dump: Dump) -> bool:
    """ss's header, or a first line of protocol and state."""
    found = [line for line in first_lines(dump) if not _NOISE.match(line)]
    if not found:
        return False
    words = found[0].split()
    if _HEADER.match(found[0]):
        return True
    return len(words) >= 3 and words[0] in _NETIDS and words[1] in _STATES


def decode(dump: Dump) -> Iterator[Fact]:
    """One Socket per listening TCP or SCTP and bound UDP socket, after Coverage "socket"; other sockets are left out.

    ``*`` is an IPv6 socket that takes IPv4 too, ``0.0.0.0`` IPv4 only, ``[::]`` IPv6 only. The address of a
    v4-mapped socket is the IPv4 address. Raises DecodeError, also for ports by name (ss without ``-n``).
    """
    yield Coverage("socket", At(dump.origin))
    for number, line in lines(dump):
        # Indented lines are details that -e, -i, -m or -o add, and associations of SCTP sockets.
        if not line.strip() or line[0].isspace() or line.startswith("`") or _HEADER.match(line) or _NOISE.match(line):
            continue
        socket = _socket(line, At(dump.origin, number))
        if socket is not None:
            yield socket


def _socket(line: str, at: At) -> Socket | None:
    words = line.split()
    netid = words.pop(0) if words[0] in _NETIDS else ""
    if not words or words[0] not in _STATES:
        raise DecodeError(
            at.origin, at.line, "expected a socket as `ss -Hlntu` prints it: protocol, state, …, address:port"
        )
    state = words.pop(0)
    # Without -t or -u alone there is no Netid column; a state of its own tells the protocol then.
    protocol = _PROTOCOLS.get(netid) if netid else {"LISTEN": TCP, "UNCONN": UDP}.get(state)
    if protocol is None or state != ("UNCONN" if protocol == UDP else "LISTEN"):
        return None
    if len(words) >= 3 and words[0].isdigit() and words[1].isdigit():
        del words[:2]
    if not words:
        raise DecodeError(at.origin, at.line, "expected the local address and port after the state")
    ip, families, port, dev = _local(words[0], at)
    process = _PROCESS.search(line)
    return Socket(protocol, ip, port, families, dev, process[1] if process else None, at)


def _local(word: str, at: At) -> tuple[Addr | None, tuple[int, ...], int, str | None]:
    host, _, tail = word.rpartition(":")
    if not (tail.isascii() and tail.isdigit() and len(tail) <= 5 and int(tail) <= 65535):
        why = f"expected address:port with a port number, found {word[:60]!r}; take the dump with `ss -lntu`"
        raise DecodeError(at.origin, at.line, why)
    # 127.0.0.53%lo, [fe80::1]%eth0, *%eth0: the socket is bound to the device (or the address is of that link).
    host, _, dev = host.partition("%")
    text = host.removeprefix("[").removesuffix("]")
    device = dev.removesuffix("]") or None
    if text in ("*", ""):
        return None, (4, 6), int(tail), device
    try:
        ip = ip_address(text)
    except ValueError:
        why = f"expected an IP address before the port, found {word[:60]!r}; take the dump with `ss -lntu`"
        raise DecodeError(at.origin, at.line, why) from None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_unspecified:
        # ss before 4.9 and netstat print ":::80" without brackets and cannot tell whether IPv4 is taken too;
        # net.ipv6.bindv6only is 0 unless somebody set it.
        families = (4, 6) if ip.version == 6 and not host.startswith("[") else (ip.version,)
        return None, families, int(tail), device
    return ip, (ip.version,), int(tail), device
