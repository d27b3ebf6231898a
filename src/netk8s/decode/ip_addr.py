"""``ip -j addr`` and ``ip -j -d addr``: addresses of the devices (iproute2's ip/ipaddress.c, ``print_addrinfo``)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from netk8s.decode._json import JsonObject, arrays, outer_keys
from netk8s.decode._links import detailed, links
from netk8s.model import Address, Coverage, Dump, Fact

NAME = "ip-addr"
COMMAND = "ip -j addr"
_FAMILIES = {"inet": 4, "inet6": 6}


def sniff(dump: Dump) -> bool:
    """A JSON array of devices with their addresses."""
    return "addr_info" in outer_keys(dump, "[")


def decode(dump: Dump) -> Iterator[Fact]:
    """One Address per address, after Coverage "addr"; with ``-d`` the Links too, after Coverage "link".

    ``position`` counts from 0 through the dump, which has the addresses in the kernel's order. Raises DecodeError.
    """
    position = 0
    for at, items in arrays(dump, COMMAND):
        yield Coverage("addr", at)
        if detailed(items):
            yield Coverage("link", at)
            yield from links(items)
        for address in addresses(items, position):
            yield address
            position += 1


def addresses(items: list[JsonObject], position: int = 0) -> Iterator[Address]:
    """The addresses of devices, in their order; ``position`` is that of the first. Raises DecodeError."""
    for item in items:
        for info in item.children("addr_info"):
            # iproute2 prints {} for an address that a selection on the command line left out.
            if info.members and info.text("family") in _FAMILIES:
                yield _address(item, info, position)
                position += 1


def _address(item: JsonObject, info: JsonObject, position: int) -> Address:
    try:
        ip = ip_address(info.need("local"))
    except ValueError:
        raise info.wrong("local", "an IP address") from None
    if ip.version != _FAMILIES[info.need("family")]:
        raise info.wrong("local", f"an address of family {info.text('family')}")
    length = info.number("prefixlen", 0, ip.max_prefixlen)
    return Address(
        dev=item.need("ifname"),
        ip=ip,
        prefixlen=ip.max_prefixlen if length is None else length,
        scope=info.word("scope") or "global",
        secondary=info.present("secondary"),
        deprecated=info.present("deprecated"),
        tentative=info.present("tentative"),
        # IFA_ADDRESS is printed only where it differs from IFA_LOCAL: the other end of a point-to-point link.
        peer=info.addr("address"),
        position=position,
        index=item.number("ifindex") or 0,
        at=item.at,
    )
