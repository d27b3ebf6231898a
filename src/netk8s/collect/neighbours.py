"""The neighbours as ``ip -j neigh``, and where frames go as ``bridge -j fdb`` prints it, or rtnetlink through pyroute2.

Sources: linux/neighbour.h; iproute2's ip/ipneigh.c (print_neigh) and bridge/fdb.c (print_fdb).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from netk8s.collect import _rtnetlink as rt
from netk8s.collect import _wire
from netk8s.collect._text import Gap, Text, command, first_of
from netk8s.collect.nfnetlink import attributes

NEEDED_FOR = "whether the next hop answers, and where a tunnel's frames go"
GROUPS = (_wire.LINKS,)

UNKNOWN, NOARP, PERMANENT = 0x21, 0x40, 0x80
GET_NEIGHBOURS = 30
OF_THE_MOMENT = (3, 4)
"""NDA_CACHEINFO and NDA_PROBES."""
STATES = {0x01: "INCOMPLETE", 0x02: "REACHABLE", 0x04: "STALE", 0x08: "DELAY", 0x10: "PROBE", 0x20: "FAILED",
          0x40: "NOARP", 0x80: "PERMANENT"}  # fmt: skip
FDB_FLAGS = {0x02: "self", 0x80: "router", 0x10: "extern_learn", 0x20: "offload", 0x04: "master", 0x40: "sticky"}


def texts() -> Iterator[Text | Gap]:
    yield first_of("ip-neigh.json", command("ip", "-j", "neigh"), rt.source(neighbours))
    yield first_of("bridge-fdb.json", command("bridge", "-j", "fdb"), rt.source(forwarding))


def signature() -> bytes:
    """All of it but how long ago an entry was confirmed: that a neighbour answers or not is a change. Raises CollectError."""
    return _wire.again(lambda: b"".join(sorted(_entries())))


def _entries() -> Iterator[bytes]:
    for family in (0, rt.BRIDGE):
        for _, payload in _wire.asked(_wire.ROUTE, GET_NEIGHBOURS, struct.pack("=B11x", family)):
            state = struct.unpack_from("=H", payload, 8)[0]
            if family == 0 and (state & NOARP or not state):
                continue
            answers = state & (UNKNOWN | NOARP | PERMANENT)
            found = attributes(payload[12:])
            kept = b"".join(_wire.attribute(key, value) for key, value in found.items() if key not in OF_THE_MOMENT)
            yield payload[:8] + struct.pack("=H", answers) + payload[10:12] + kept


def neighbours(connection: Any) -> Iterator[rt.Item]:
    """ARP and neighbour discovery entries, without those of devices that need none."""
    names = rt.names(connection)
    for family in (rt.INET, rt.INET6):
        for message in connection.get_neighbours(family=family):
            attrs = rt.attributes_of(message)
            if message["state"] & NOARP or message["state"] == 0 or "NDA_DST" not in attrs:
                continue
            out = {"dst": attrs["NDA_DST"], "dev": names.get(message["ifindex"])}
            if "NDA_LLADDR" in attrs:
                out["lladdr"] = attrs["NDA_LLADDR"]
            if message["flags"] & 0x80:
                out["router"] = None
            yield {**out, "state": rt.flags(message["state"], STATES)}


def forwarding(connection: Any) -> Iterator[rt.Item]:
    """The entries of bridge ports and tunnels."""
    names = rt.names(connection)
    for message in connection.fdb("dump"):
        attrs = rt.attributes_of(message)
        out = {"mac": attrs["NDA_LLADDR"], "ifname": names.get(message["ifindex"])}
        if "NDA_DST" in attrs:
            out["dst"] = attrs["NDA_DST"]
        if "NDA_VLAN" in attrs:
            out["vlan"] = attrs["NDA_VLAN"]
        out["flags"] = rt.flags(message["flags"], FDB_FLAGS)
        if "NDA_MASTER" in attrs:
            out["master"] = names.get(attrs["NDA_MASTER"])
        yield {**out, "state": _state(message["state"])}


def _state(bits: int) -> str:
    if bits & PERMANENT:
        return "permanent"
    if bits & NOARP:
        return "static"
    return "stale" if bits & 0x04 else "" if bits & 0x02 else f"state={bits:#x}"
