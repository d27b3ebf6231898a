"""A device as iproute2's JSON members have it -> a Link. The reader of iproute2's text brings the same members.

The members are those of iproute2's ip/ipaddress.c (``print_linkinfo``) and ip/iplink_*.c, ip/link_*.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

from netk8s.decode._json import JsonObject, whole
from netk8s.model import Addr, At, Bond, Bridge, Ipvlan, Link, LinkDetail, Macvlan, Tunnel, Vlan, Vrf

TUNNELS = frozenset({
    "vxlan", "geneve", "bareudp", "ipip", "sit", "gre", "gretap", "erspan", "vti", "ip6tnl", "ip6gre", "ip6gretap",
    "ip6erspan", "vti6",
})  # fmt: skip


def detailed(items: Iterable[JsonObject]) -> bool:
    """Whether the command had ``-d``: kind "" means a physical device only then."""
    # promiscuity is printed for every device, with -d only.
    return any("linkinfo" in item.members or "promiscuity" in item.members for item in items)


def links(items: list[JsonObject]) -> Iterator[Link]:
    """One Link per device. Raises DecodeError."""
    indexes = {item.text("ifname"): item.number("ifindex") for item in items}
    for item in items:
        yield _link(item, item.at, indexes)


def _link(item: JsonObject, at: At, indexes: Mapping[str | None, int | None]) -> Link:
    info = item.child("linkinfo")
    data = (info.child("info_data") if info else None) or item.empty("linkinfo")
    slave = info.child("info_slave_data") if info else None
    if slave is None and "cost" in item.members:
        slave = item  # `bridge -d link` prints the port's settings beside its name
    name, index = item.need("ifname"), item.number("ifindex")
    if index is None:
        raise item.wrong("ifindex", "the index of the device")
    kind = (info.text("info_kind") if info else None) or ""
    parent, peer_index = item.text("link"), item.number("link_index")
    if kind in TUNNELS:
        parent = parent or data.text("link")
    if kind == "veth" and parent is not None:
        # The link of a veth device is its peer, printed by name when both are in this namespace.
        parent, peer_index = None, indexes.get(parent)
    return Link(
        name=name,
        index=index,
        kind=kind,
        mac=item.text("address"),
        mtu=item.number("mtu"),
        up="UP" in item.texts("flags") or not item.texts("flags"),
        master=item.text("master"),
        parent=parent,
        peer_netns=item.number("link_netnsid", -1),
        peer_netns_name=item.text("link_netns"),
        peer_index=peer_index,
        mode=data.word("type" if kind == "tun" else "mode"),
        hairpin=slave.flag("hairpin") if slave else None,
        isolated=slave.flag("isolated") if slave else None,
        port_state=slave.word("state") if slave else None,
        state=item.text("operstate") or "",
        alias=item.text("ifalias"),
        altnames=item.texts("altnames"),
        detail=_detail(kind, data),
        info=dict(data.members),
        at=at,
    )


def _detail(kind: str, data: JsonObject) -> LinkDetail | None:
    if kind in TUNNELS:
        return Tunnel(
            id=_key(data),
            local=_any(data, "local", "local6"),
            remote=_any(data, "remote", "remote6", "group", "group6"),
            port=data.number("port", 0, 65535),
            external=data.present("external"),
            learning=data.flag("learning"),
            csum=data.present("ocsum"),
            seq=data.present("oseq"),
            encap=wrapped.text("type") if (wrapped := data.child("encap")) else None,
            encap_limit=not data.present("ip6_tnl_f_ign_encap_limit"),
        )
    if kind == "bridge":
        return Bridge(
            vlan_filtering=_on(data, "vlan_filtering"),
            default_pvid=data.number("vlan_default_pvid"),
            stp=_on(data, "stp_state"),
            nf_call_iptables=_on(data, "nf_call_iptables"),
            nf_call_ip6tables=_on(data, "nf_call_ip6tables"),
        )
    if kind == "vlan":
        tag = data.number("id", 0, 4095)
        return None if tag is None else Vlan(tag, data.text("protocol") or "802.1Q")
    if kind in ("macvlan", "macvtap"):
        return Macvlan(data.texts("macaddr_data"))
    if kind in ("ipvlan", "ipvtap"):
        return Ipvlan(private=data.present("private"), vepa=data.present("vepa"))
    if kind == "bond":
        return Bond(data.text("active_slave"), data.text("xmit_hash_policy"))
    if kind == "vrf":
        table = data.number("table")
        return None if table is None else Vrf(table)
    return None


def _on(data: JsonObject, key: str) -> bool | None:
    """A setting that is a number, 0 for off; newer iproute2 may print true or false."""
    value = data.members.get(key)
    return value if isinstance(value, bool) else None if value is None else data.number(key) != 0


def _any(data: JsonObject, *keys: str) -> Addr | None:
    """The first address of these members; "any" is none."""
    for key in keys:
        if data.members.get(key) not in (None, "any"):
            return data.addr(key)
    return None


def _key(data: JsonObject) -> int | None:
    """A VNI, or the key of a GRE tunnel, which iproute2 prints as an address or a number."""
    if "id" in data.members:
        return data.number("id")
    value = data.word("okey")
    if value is None:
        return None
    try:
        return int(IPv4Address(value))
    except ValueError:
        return whole(value)
