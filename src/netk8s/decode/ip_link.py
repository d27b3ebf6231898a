"""``ip -j -d link``: network devices (iproute2's ip/ipaddress.c, ``print_linkinfo``)."""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.decode._json import JsonObject, arrays, outer_keys
from netk8s.model import At, Coverage, Dump, Fact, Link

NAME = "ip-link"
COMMAND = "ip -j -d link"


def sniff(dump: Dump) -> bool:
    """A JSON array of devices without their addresses."""
    keys = outer_keys(dump, "[")
    return {"ifindex", "ifname"} <= keys and "addr_info" not in keys


def decode(dump: Dump) -> Iterator[Fact]:
    """One Link per device, after Coverage "link".

    A dump without ``-d`` tells no device's kind: it gives the Links and no Coverage, for kind "" in it does
    not mean a physical device. Raises DecodeError.
    """
    for at, items in arrays(dump, COMMAND):
        # promiscuity is printed for every device, with -d only.
        if any("linkinfo" in item.members or "promiscuity" in item.members for item in items):
            yield Coverage("link", at)
        indexes = {item.members.get("ifname"): item.number("ifindex") for item in items if _named(item)}
        for item in items:
            yield _link(item, at, indexes)


def _named(item: JsonObject) -> bool:
    return isinstance(item.members.get("ifname"), str)


def _link(item: JsonObject, at: At, indexes: dict[object, int | None]) -> Link:
    info = item.child("linkinfo")
    data = info.child("info_data") if info else None
    slave = info.child("info_slave_data") if info else None
    name, index = item.need("ifname"), item.number("ifindex")
    if index is None:
        raise item.wrong("ifindex", "the index of the device")
    kind = (info.text("info_kind") if info else None) or ""
    parent, peer_index = item.text("link"), item.number("link_index")
    if kind == "veth" and parent is not None:
        # The link of a veth device is its peer, printed by name when both are in this namespace.
        parent, peer_index = None, indexes.get(parent)
    return Link(
        name=name,
        index=index,
        kind=kind,
        mac=item.text("address"),
        mtu=item.number("mtu"),
        up="UP" in item.texts("flags"),
        master=item.text("master"),
        parent=parent,
        peer_netns=item.number("link_netnsid", -1),
        peer_index=peer_index,
        mode=data.word("mode") if data else None,
        hairpin=slave.flag("hairpin") if slave else None,
        isolated=slave.flag("isolated") if slave else None,
        info=dict(data.members) if data else {},
        at=at,
    )
