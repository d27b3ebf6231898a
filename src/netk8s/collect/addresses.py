"""The addresses of the devices as ``ip -j addr`` prints them: ip itself, else rtnetlink through pyroute2.

Sources: linux/if_addr.h; iproute2's ip/ipaddress.c (print_addrinfo).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netk8s.collect import _rtnetlink as rt
from netk8s.collect import _wire
from netk8s.collect._text import Gap, Text, command, first_of

NEEDED_FOR = "the addresses that MASQUERADE takes"
GROUPS = (_wire.LINKS, _wire.IPV4_ADDRESSES, _wire.IPV6_ADDRESSES)

PERMANENT = 0x80
FLAGS = {0x01: "secondary", 0x02: "nodad", 0x04: "optimistic", 0x08: "dadfailed", 0x10: "home", 0x20: "deprecated",
         0x40: "tentative", 0x100: "mngtmpaddr", 0x200: "noprefixroute", 0x400: "autojoin"}  # fmt: skip


def texts() -> Iterator[Text | Gap]:
    yield first_of("ip-addr.json", command("ip", "-j", "addr"), rt.source(listed))


def listed(connection: Any) -> Iterator[rt.Item]:
    """One object for each device, with its addresses in the kernel's order, IPv4 first."""
    found: dict[int, list[rt.Item]] = {}
    for family in (rt.INET, rt.INET6):
        for message in connection.get_addr(family=family):
            found.setdefault(message["index"], []).append(_address(message))
    for index, name in rt.names(connection).items():
        yield {"ifindex": index, "ifname": name, "addr_info": found.get(index, [])}


def _address(message: Any) -> rt.Item:
    attrs = rt.attributes_of(message)
    address = attrs.get("IFA_ADDRESS")
    local = attrs.get("IFA_LOCAL", address)
    bits = attrs.get("IFA_FLAGS", message["flags"])
    out: rt.Item = {"family": "inet" if message["family"] == rt.INET else "inet6", "local": local}
    if address is not None and address != local:
        out["address"] = address
    out |= {"prefixlen": message["prefixlen"], "scope": rt.named(message["scope"], rt.SCOPES)}
    six = message["family"] == rt.INET6
    # One bit with two names: an IPv6 address that is secondary is a temporary one (IFA_F_TEMPORARY).
    out |= {"temporary" if six and name == "secondary" else name: True for name in rt.flags(bits, FLAGS)}
    if not bits & PERMANENT:
        out["dynamic"] = True
    return out
