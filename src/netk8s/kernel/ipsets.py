"""Whether a packet is in an ipset, by the entries that ``ipset save`` prints.

Sources: Linux net/netfilter/ipset/ip_set_hash_*.c, ip_set_bitmap_*.c; ipset(8).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

from netk8s.kernel.flight import Flight
from netk8s.model import PROTOCOL_NAMES, SCTP, TCP, UDP, IpSet

_PORT_PROTOCOLS = (TCP, UDP, SCTP, 136)
_PLAIN = re.compile(r"[1-9]\d{0,2}(?:\.(?:0|[1-9]\d{0,2})){3}")
"""An IPv4 address in the one way that ipset prints it: another text is another address, without parsing it."""


def contains(
    kept: IpSet, directions: Sequence[str], flight: Flight, others: Callable[[str], IpSet | None] = lambda name: None
) -> bool | None:
    """Whether the packet's elements, taken by ``directions`` ("src", "dst" for each dimension), are in the set.

    ``others`` finds the member sets of a list:set. None when the type or an entry is not understood. An entry with
    ``nomatch`` takes out what a wider one holds.
    """
    if kept.kind == "list:set":
        members = [others(entry.split()[0]) for entry in kept.entries if entry.split()]
        # A list holds sets and no lists, so this goes one deep (ip_set_list_set.c).
        inside_of = [contains(m, directions, flight) if m and m.kind != "list:set" else None for m in members]
        return True if True in inside_of else None if None in inside_of else False
    _, _, dimensions = kept.kind.partition(":")
    parts = dimensions.split(",")
    if kept.kind == "bitmap:port" and flight.packet.protocol not in (TCP, UDP):
        # ip_set_get_ip_port: a set of bare ports knows TCP and UDP only.
        return False
    if not dimensions or any(p not in ("ip", "net", "port", "iface") for p in parts) or len(directions) < len(parts):
        return None
    if not flight.src_known and "src" in directions:
        return None
    best, inside = -1, False
    for entry in kept.entries:
        words = entry.split()
        if not words:
            continue
        values = _fields(words[0])
        if len(values) != len(parts):
            return None
        specific = 0
        matched = True
        for part, value, direction in zip(parts, values, directions, strict=False):
            found = _one(part, value, direction, flight)
            if found is None:
                return None
            if found < 0:
                matched = False
                break
            specific += found
        if matched and specific >= best:
            best, inside = specific, "nomatch" not in words[1:]
    return inside


def _fields(text: str) -> list[str]:
    return text.split(",")


def _one(part: str, value: str, direction: str, flight: Flight) -> int | None:
    """-1: not this element; else how specific the match is (prefix length). None: not understood."""
    packet = flight.packet
    if part in ("ip", "net"):
        address = packet.src if direction == "src" else packet.dst
        if value == str(address):
            return address.max_prefixlen
        if address.version == 4 and _PLAIN.fullmatch(value):
            return -1
        first, dash, last = value.partition("-")
        try:
            if dash:
                low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
                inside = low.version == address.version and int(low) <= int(address) <= int(high)
                return 0 if inside else -1
            net = ipaddress.ip_network(value, strict=False)
        except ValueError:
            return None
        inside = net.version == address.version and int(address) & int(net.netmask) == int(net.network_address)
        return net.prefixlen if inside else -1
    if part == "iface":
        if not (flight.iif_known if direction == "src" else flight.oif_known):
            return None
        name = flight.iif if direction == "src" else flight.oif
        return 0 if name == value else -1
    protocol, colon, ports = value.rpartition(":")
    number = next((n for n, name in PROTOCOL_NAMES.items() if name == protocol), TCP) if colon else TCP
    if packet.protocol not in _PORT_PROTOCOLS or (colon and number != packet.protocol):
        return -1
    port = packet.sport if direction == "src" else packet.dport
    low_text, _, high_text = ports.partition("-")
    if not low_text.isdecimal() or (high_text and not high_text.isdecimal()):
        return None
    if port is None:
        return None
    return 0 if int(low_text) <= port <= int(high_text or low_text) else -1
