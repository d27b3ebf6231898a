"""``ip -j -d link`` and ``bridge -j -d link``: network devices (iproute2's ip/ipaddress.c, bridge/link.c)."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import arrays, outer_keys
from netk8s.decode._links import detailed, links
from netk8s.model import Coverage, Dump, Fact

NAME = "ip-link"
COMMAND = "ip -j -d link"


def sniff(dump: Dump) -> bool:
    """A JSON array of devices without their addresses."""
    keys = outer_keys(dump, "[")
    return {"ifindex", "ifname"} <= keys and "addr_info" not in keys


def decode(dump: Dump) -> Iterator[Fact]:
    """One Link per device, after Coverage "link".

    A dump without ``-d``, and one of ``bridge link``, tells no device's kind: it gives the Links and no Coverage, for
    kind "" in it does not mean a physical device. Raises DecodeError.
    """
    for at, items in arrays(dump, COMMAND):
        if detailed(items):
            yield Coverage("link", at)
        yield from links(items)
