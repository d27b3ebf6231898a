"""rtnetlink through pyroute2, as far as the readers that write iproute2's JSON share it.

Sources: linux/rtnetlink.h, linux/if.h, linux/neighbour.h; iproute2's lib/rt_names.c for the names that every
installation has. What has no name there is a number, as with iproute2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from netk8s.collect._netlink import netlink
from netk8s.collect._text import Source

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
TABLES = {253: "default", 254: "main", 255: "local"}
PROTOCOLS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra",
    12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel",
    84: "ovn-tunnel", 99: "openr", 186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
KINDS = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
    8: "prohibit", 9: "throw", 10: "nat", 11: "xresolve",
}  # fmt: skip
INET, INET6, BRIDGE = 2, 10, 7

Item = dict[str, Any]


def source(read: Callable[[Any], Iterable[Item]]) -> Source:
    """A way to JSON as iproute2 prints it. ``read`` is given pyroute2's IPRoute."""

    def asked() -> bytes:
        from pyroute2 import IPRoute

        with IPRoute() as connection:
            return json.dumps(list(read(connection))).encode() + b"\n"

    return netlink("rtnetlink", asked)


def names(connection: Any) -> dict[int, str]:
    """The devices' names by index."""
    return {message["index"]: message.get_attr("IFLA_IFNAME") for message in connection.get_links()}


def attributes_of(message: Any) -> dict[str, Any]:
    """The attributes of a message or of a nested one by name; the last of a kind, as the kernel has one."""
    return {name: value for name, value, *_ in (message or {}).get("attrs", ())}


def named(value: int, table: Mapping[int, str]) -> str:
    return table.get(value, str(value))


def flags(value: int, table: Mapping[int, str]) -> list[str]:
    return [name for bit, name in table.items() if value & bit]


def prefix(address: str, length: int) -> str:
    """A network as iproute2 writes it: without its length where that is a whole address."""
    return address if length == ip_address(address).max_prefixlen else f"{address}/{length}"


def without_none(members: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in members if value is not None)
