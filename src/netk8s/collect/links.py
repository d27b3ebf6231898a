"""The network devices as ``ip -j -d link`` prints them: ip itself, else rtnetlink through pyroute2.

The second has what a trace asks of a device, in iproute2's words, and not all of iproute2's members. Sources:
linux/if_link.h, linux/if_bridge.h; iproute2's ip/ipaddress.c (print_linkinfo) and ip/iplink_*.c.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from msgspec import Struct

from netk8s.collect import _rtnetlink as rt
from netk8s.collect import _wire
from netk8s.collect._text import Gap, Text, command, first_of
from netk8s.collect.nfnetlink import attributes

NEEDED_FOR = "devices and bridges"
GROUPS = (_wire.LINKS,)

FLAGS = {
    0x8: "LOOPBACK", 0x2: "BROADCAST", 0x10: "POINTOPOINT", 0x1000: "MULTICAST", 0x80: "NOARP", 0x200: "ALLMULTI",
    0x100: "PROMISC", 0x400: "MASTER", 0x800: "SLAVE", 0x4: "DEBUG", 0x4000: "DYNAMIC", 0x2000: "AUTOMEDIA",
    0x8000: "PORTSEL", 0x20: "NOTRAILERS", 0x1: "UP", 0x10000: "LOWER_UP", 0x20000: "DORMANT", 0x40000: "ECHO",
}  # fmt: skip
HEADER, ADDRESS, LINKINFO, INFO_DATA = 32, 1, 18, 2
IPVLAN_MODES = {0: "l2", 1: "l3", 2: "l3s"}
PORT_STATES = {0: "disabled", 1: "listening", 2: "learning", 3: "forwarding", 4: "blocking"}
VLAN_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}
BOND_HASHES = {0: "layer2", 1: "layer3+4", 2: "layer2+3", 3: "encap2+3", 4: "encap3+4", 5: "vlan+srcmac"}
BOND_MODES = {
    0: "balance-rr", 1: "active-backup", 2: "balance-xor", 3: "broadcast", 4: "802.3ad", 5: "balance-tlb",
    6: "balance-alb",
}  # fmt: skip
Attributes = Mapping[str, Any]


def texts() -> Iterator[Text | Gap]:
    yield first_of("ip-link.json", command("ip", "-j", "-d", "link"), rt.source(listed))


def listed(connection: Any) -> Iterator[rt.Item]:
    """One object for each device, in the order of their indexes."""
    messages = list(connection.get_links())
    names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
    for message in messages:
        yield dict(rt.without_none(_link(message, rt.attributes_of(message), names)))


def _link(message: Any, attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    yield "ifindex", message["index"]
    yield "ifname", attrs["IFLA_IFNAME"]
    below, elsewhere = attrs.get("IFLA_LINK"), attrs.get("IFLA_LINK_NETNSID")
    if below is not None and elsewhere is not None:
        yield "link_index", below
    elif below:
        yield "link", names.get(below)
    yield "flags", rt.flags(message["flags"], FLAGS)
    yield "mtu", attrs.get("IFLA_MTU")
    yield "master", names.get(attrs.get("IFLA_MASTER", 0))
    yield "operstate", attrs.get("IFLA_OPERSTATE")
    yield "link_type", "loopback" if message["ifi_type"] == 772 else "ether" if message["ifi_type"] == 1 else None
    raw = attributes(bytes(message.data[message.offset + HEADER : message.offset + message.length]))
    yield "address", _address(raw.get(ADDRESS, b""))
    yield "link_netnsid", elsewhere
    yield "promiscuity", attrs.get("IFLA_PROMISCUITY", 0)
    yield "ifalias", attrs.get("IFLA_IFALIAS")
    other = [value for name, value, *_ in (attrs.get("IFLA_PROP_LIST") or {}).get("attrs", ()) if "ALT_IFNAME" in name]
    yield "altnames", other or None
    info = rt.attributes_of(attrs.get("IFLA_LINKINFO"))
    if info:
        members = dict(rt.without_none(_info(info, names)))
        kind, data = members.get("info_kind"), attributes(attributes(raw[LINKINFO]).get(INFO_DATA, b""))
        if kind in ("ipvlan", "ipvtap"):
            members["info_data"] = _ipvlan(data)
        elif kind in IP_TUNNELS:
            members["info_data"] = dict(rt.without_none(_ip_tunnel(kind, data, names)))
        yield "linkinfo", members


def _address(value: bytes) -> str | None:
    """A MAC address, or the IP address that a tunnel without one has in its place."""
    if len(value) in (4, 16):
        return str(ip_address(value))
    return value.hex(":") or None


def _info(info: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    kind = str(info.get("IFLA_INFO_KIND"))
    yield "info_kind", kind
    data = info.get("IFLA_INFO_DATA")
    if kind in _DATA and isinstance(data, dict):
        yield "info_data", dict(rt.without_none(_DATA[kind](rt.attributes_of(data), names)))
    slave = info.get("IFLA_INFO_SLAVE_KIND")
    yield "info_slave_kind", slave
    port = info.get("IFLA_INFO_SLAVE_DATA")
    if slave == "bridge" and isinstance(port, dict):
        yield "info_slave_data", dict(rt.without_none(_port(rt.attributes_of(port))))


def _port(attrs: Attributes) -> Iterator[tuple[str, Any]]:
    yield "state", rt.named(attrs.get("IFLA_BRPORT_STATE", 0), PORT_STATES)
    for key, name in (("hairpin", "MODE"), ("learning", "LEARNING"), ("isolated", "ISOLATED")):
        if f"IFLA_BRPORT_{name}" in attrs:
            yield key, bool(attrs[f"IFLA_BRPORT_{name}"])


def _bridge(attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    for key, name in (
        ("stp_state", "STP_STATE"),
        ("vlan_filtering", "VLAN_FILTERING"),
        ("vlan_default_pvid", "VLAN_DEFAULT_PVID"),
        ("nf_call_iptables", "NF_CALL_IPTABLES"),
        ("nf_call_ip6tables", "NF_CALL_IP6TABLES"),
    ):
        yield key, attrs.get(f"IFLA_BR_{name}")


def _vxlan(attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    yield "id", attrs.get("IFLA_VXLAN_ID")
    for six in ("", "6"):
        group = attrs.get(f"IFLA_VXLAN_GROUP{six}")
        if group is not None and not ip_address(group).is_unspecified:
            yield ("group" if ip_address(group).is_multicast else "remote") + six, group
        local = attrs.get(f"IFLA_VXLAN_LOCAL{six}")
        yield f"local{six}", local if local is not None and not ip_address(local).is_unspecified else None
    yield "link", names.get(attrs.get("IFLA_VXLAN_LINK", 0))
    yield "port", attrs.get("IFLA_VXLAN_PORT")
    yield "learning", bool(attrs.get("IFLA_VXLAN_LEARNING"))
    yield "external", True if attrs.get("IFLA_VXLAN_COLLECT_METADATA") else None


def _geneve(attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    yield "id", attrs.get("IFLA_GENEVE_ID")
    yield "remote", attrs.get("IFLA_GENEVE_REMOTE")
    yield "remote6", attrs.get("IFLA_GENEVE_REMOTE6")
    yield "port", attrs.get("IFLA_GENEVE_PORT")
    yield "external", True if "IFLA_GENEVE_COLLECT_METADATA" in attrs else None


class IpTunnel(Struct, frozen=True):
    """Where an IP tunnel's attributes are (IFLA_GRE_*, IFLA_IPTUN_*, IFLA_VTI_*); 0 for those that a kind has not.

    ``flags`` is what has IP6_TNL_F_IGN_ENCAP_LIMIT, ``outer`` what has the flags of the GRE header that is sent.
    """

    local: int
    remote: int
    okey: int = 0
    outer: int = 0
    encap: int = 0
    external: int = 0
    flags: int = 0


GRE_TUNNEL, GRE6_TUNNEL = IpTunnel(6, 7, 5, 3, 14, 18), IpTunnel(6, 7, 5, 3, 14, 18, 13)
IP_TUNNELS = {
    "ipip": IpTunnel(2, 3, encap=15, external=19), "sit": IpTunnel(2, 3, encap=15, external=19),
    "ip6tnl": IpTunnel(2, 3, encap=15, external=19, flags=8),
    "gre": GRE_TUNNEL, "gretap": GRE_TUNNEL, "erspan": GRE_TUNNEL,
    "ip6gre": GRE6_TUNNEL, "ip6gretap": GRE6_TUNNEL, "ip6erspan": GRE6_TUNNEL,
    "vti": IpTunnel(4, 5, 3), "vti6": IpTunnel(4, 5, 3),
}  # fmt: skip
GRE_CSUM, GRE_KEY, GRE_SEQ, IGNORE_ENCAP_LIMIT = 0x8000, 0x2000, 0x1000, 1
ENCAPS = {1: "fou", 2: "gue", 3: "mpls"}


def _ip_tunnel(kind: str, data: Mapping[int, bytes], names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    """Read here, for pyroute2 stops at a flag of GRE that it does not know."""
    place = IP_TUNNELS[kind]
    for key, number in (("remote", place.remote), ("local", place.local)):
        address = data.get(number, b"")
        yield key, str(ip_address(address)) if any(address) else "any"
    yield "link", names.get(_native(data.get(1, b"")))
    outer = int.from_bytes(data.get(place.outer, b""), "big")
    okey = data.get(place.okey, b"")
    yield "okey", str(ip_address(okey)) if outer & GRE_KEY or (not place.outer and any(okey)) else None
    yield "ocsum", True if outer & GRE_CSUM else None
    yield "oseq", True if outer & GRE_SEQ else None
    encap = ENCAPS.get(_native(data.get(place.encap, b"")))
    yield "encap", {"type": encap} if encap else None
    yield "external", True if place.external in data else None
    yield "ip6_tnl_f_ign_encap_limit", True if _native(data.get(place.flags, b"")) & IGNORE_ENCAP_LIMIT else None


def _native(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _ipvlan(data: Mapping[int, bytes]) -> rt.Item:
    """Read here, for pyroute2 knows the mode and not the flags (IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS)."""
    mode, flags = (_native(data.get(key, b"")) for key in (1, 2))
    return {
        "mode": IPVLAN_MODES.get(mode, str(mode)),
        "private" if flags & 1 else "vepa" if flags & 2 else "bridge": True,
    }


def _macvlan(attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    yield "mode", attrs.get("IFLA_MACVLAN_MODE")
    macs = attrs.get("IFLA_MACVLAN_MACADDR_DATA")
    yield "macaddr_data", [value for _, value, *_ in macs["attrs"]] if macs else None


def _vlan(attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    yield "protocol", VLAN_PROTOCOLS.get(attrs.get("IFLA_VLAN_PROTOCOL", 0x8100))
    yield "id", attrs.get("IFLA_VLAN_ID")


def _bond(attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    yield "mode", BOND_MODES.get(attrs.get("IFLA_BOND_MODE", -1))
    yield "active_slave", names.get(attrs.get("IFLA_BOND_ACTIVE_SLAVE", 0))
    yield "xmit_hash_policy", BOND_HASHES.get(attrs.get("IFLA_BOND_XMIT_HASH_POLICY", -1))


def _vrf(attrs: Attributes, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    yield "table", attrs.get("IFLA_VRF_TABLE")


_DATA: Mapping[str, Callable[[Attributes, Mapping[int, str]], Iterator[tuple[str, Any]]]] = {
    "bridge": _bridge,
    "vxlan": _vxlan,
    "geneve": _geneve,
    "macvlan": _macvlan,
    "macvtap": _macvlan,
    "vlan": _vlan,
    "bond": _bond,
    "vrf": _vrf,
}
