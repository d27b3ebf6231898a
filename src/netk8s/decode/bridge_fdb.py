"""``bridge -j fdb``: forwarding entries of bridge ports and vxlan devices (iproute2's bridge/fdb.c, ``print_fdb``)."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import arrays, outer_keys
from netk8s.model import Coverage, Dump, Fact, FdbEntry

NAME = "bridge-fdb"
COMMAND = "bridge -j fdb"


def sniff(dump: Dump) -> bool:
    """A JSON array of entries that each have a MAC address and a state or flags."""
    keys = outer_keys(dump, "[")
    return "mac" in keys and bool(keys & {"state", "flags"}) and "ifindex" not in keys


def decode(dump: Dump) -> Iterator[Fact]:
    """One FdbEntry per entry, after Coverage "fdb"; a state such as ``permanent`` comes last in its flags.

    Raises DecodeError, also for a dump of one device alone: such entries do not name it.
    """
    for at, items in arrays(dump, COMMAND):
        yield Coverage("fdb", at)
        for item in items:
            if not item.text("ifname"):
                raise item.wrong("ifname", f"the device; take the dump for all devices, with `{COMMAND}`")
            state = item.text("state")
            flags = (*item.texts("flags"), *((state,) if state else ()))
            yield FdbEntry(item.need("mac"), item.need("ifname"), item.addr("dst"), item.text("master"), flags, at)
