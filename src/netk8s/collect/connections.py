"""The tracked connections as ``conntrack -L -o extended`` prints them: ctnetlink through pyroute2, else conntrack itself.

Sources: linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h, nf_conntrack_sctp.h; the order
of the words is libnetfilter_conntrack's (snprintf_default.c).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from netk8s.collect._netlink import netlink
from netk8s.collect._text import Gap, Source, Text, command, first_of
from netk8s.collect.nfnetlink import attributes
from netk8s.model import ICMP, ICMPV6, PROTOCOL_NAMES, SCTP, TCP

NEEDED_FOR = "what was translated before, and how"
NAME = "conntrack.txt"

ORIGINAL, REPLY, STATUS, PROTOINFO, TIMEOUT, MARK, COUNTERS, USE, ZONE = 1, 2, 3, 4, 7, 8, (9, 10), 11, 18
SEEN_REPLY, ASSURED, OFFLOAD, HW_OFFLOAD = 1 << 1, 1 << 2, 1 << 14, 1 << 15
STATES: Mapping[int, tuple[str, ...]] = {
    TCP: (
        "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
        "SYN_SENT2",
    ),
    SCTP: (
        "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
        "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED",
    ),
}  # fmt: skip
_INFO = {TCP: 1, SCTP: 3}
"""Where a protocol's state is in CTA_PROTOINFO."""
_NAMED = frozenset({1, 6, 17, 33, 47, 58, 132, 136})
"""The protocols that have a tracker of their own; the others are "unknown" to conntrack."""
GRE = 47
_PORTS, _ICMP = ((2, "sport"), (3, "dport")), {ICMP: (5, 6, 4), ICMPV6: (8, 9, 7)}
Attributes = Mapping[int, bytes]


def texts() -> Iterator[Text | Gap]:
    yield first_of(NAME, netlink("conntrack", listed), Source("conntrack -L -o extended", _by_command))


def _by_command() -> bytes:
    return b"".join(command("conntrack", "-L", "-o", "extended", "-f", family).read() for family in ("ipv4", "ipv6"))


def listed() -> bytes:
    """Every entry of this namespace, of both families."""
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

    lines = []
    # pyroute2 asks for IPv4 alone, unless it is told to ask for no family.
    with NFCTSocket(nfgen_family=socket.AF_UNSPEC) as asked:
        for answer in asked.dump():
            # Read off the message as it came: a node may track a hundred thousand connections.
            lines.append(_line(attributes(bytes(answer.data[answer.offset + 20 : answer.offset + answer.length]))))
    return "".join(f"{line}\n" for line in lines).encode()


def _line(found: Attributes) -> str:
    status = _number(found.get(STATUS))
    protocol, original = _tuple(found[ORIGINAL])
    _, reply = _tuple(found[REPLY])
    family = "ipv4     2" if ":" not in original else "ipv6     10"
    name = PROTOCOL_NAMES[protocol] if protocol in _NAMED else "unknown"
    words = [f"{family} {name:<8} {protocol}"]
    if TIMEOUT in found:
        words.append(str(_number(found[TIMEOUT])))
    words += _state(protocol, found)
    words += [original, *_counters(found.get(COUNTERS[0]))]
    words += [] if status & SEEN_REPLY else ["[UNREPLIED]"]
    words += [reply, *_counters(found.get(COUNTERS[1]))]
    for bit, flag in ((HW_OFFLOAD, "[HW_OFFLOAD]"), (OFFLOAD, "[OFFLOAD]"), (ASSURED, "[ASSURED]")):
        if status & bit:
            words.append(flag)
            break
    words += [
        f"{word}={_number(found[key])}" for word, key in (("mark", MARK), ("zone", ZONE), ("use", USE)) if key in found
    ]
    return " ".join(words)


def _state(protocol: int, found: Attributes) -> list[str]:
    info = attributes(attributes(found.get(PROTOINFO, b"")).get(_INFO.get(protocol, -1), b""))
    if 1 not in info:
        return []
    number, names = _number(info[1]), STATES[protocol]
    return [names[number] if number < len(names) else "NONE"]


def _tuple(data: bytes) -> tuple[int, str]:
    """(protocol, words) of one direction."""
    found = attributes(data)
    ip, proto = attributes(found[1]), attributes(found[2])
    src, dst = (IPv4Address(ip[1]), IPv4Address(ip[2])) if 1 in ip else (IPv6Address(ip[3]), IPv6Address(ip[4]))
    protocol = _number(proto[1])
    words = [f"src={src} dst={dst}"]
    if protocol in _ICMP:
        kinds = zip(("type", "code", "id"), _ICMP[protocol], strict=True)
        words += [f"{word}={_number(proto.get(key))}" for word, key in kinds]
    elif protocol == GRE:
        words += [f"{word}=0x{_number(proto.get(key)):x}" for word, key in (("srckey", 2), ("dstkey", 3))]
    else:
        words += [f"{word}={_number(proto[key])}" for key, word in _PORTS if key in proto]
    return protocol, " ".join(words)


def _counters(data: bytes | None) -> list[str]:
    found = attributes(data or b"")
    return [f"{word}={_number(found[key])}" for key, word in ((1, "packets"), (2, "bytes")) if key in found]


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")
