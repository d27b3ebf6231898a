"""``bridge -j vlan``: the VLANs of bridges and their ports (iproute2's bridge/vlan.c, ``print_vlan``)."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import arrays, outer_keys
from netk8s.model import Coverage, Dump, Fact, PortVlan

NAME = "bridge-vlan"
COMMAND = "bridge -j vlan"


def sniff(dump: Dump) -> bool:
    """A JSON array of devices with VLANs."""
    return {"ifname", "vlans"} <= outer_keys(dump, "[")


def decode(dump: Dump) -> Iterator[Fact]:
    """One PortVlan per VLAN of a device, after Coverage "vlan"; a range of VLANs is spelled out. Raises DecodeError."""
    for at, items in arrays(dump, COMMAND):
        yield Coverage("vlan", at)
        for item in items:
            for entry in item.children("vlans"):
                first = entry.number("vlan", 0, 4095)
                if first is None:
                    raise entry.wrong("vlan", "the number of a VLAN")
                last = entry.number("vlanEnd", first, 4095)
                flags = entry.texts("flags")
                for vlan in range(first, (first if last is None else last) + 1):
                    yield PortVlan(item.need("ifname"), vlan, "PVID" in flags, "Egress Untagged" in flags, at)
