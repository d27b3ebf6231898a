"""The routes and the rules that choose a table as ``ip -j route`` and ``ip -j rule`` print them, or through rtnetlink.

Sources: linux/rtnetlink.h, linux/fib_rules.h; iproute2's ip/iproute.c (print_route) and ip/iprule.c (print_rule).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address
from typing import Any

from netk8s.collect import _rtnetlink as rt
from netk8s.collect import _wire
from netk8s.collect._text import Gap, Source, Text, command, first_of
from netk8s.collect.nfnetlink import attributes
from netk8s.model import PROTOCOL_NAMES

NEEDED_FOR = "where the packet goes on"
# A route of IPv4 goes with its device or its address and nothing says so but the news of these (fib_frontend.c).
GROUPS = (
    _wire.LINKS, _wire.IPV4_ADDRESSES, _wire.IPV6_ADDRESSES, _wire.IPV4_ROUTES, _wire.IPV6_ROUTES, _wire.IPV4_RULES,
    _wire.IPV6_RULES, _wire.NEXTHOPS,
)  # fmt: skip

CLONED = 0x200
HOP_FLAGS = {0x01: "dead", 0x04: "onlink", 0x02: "pervasive", 0x08: "offload", 0x10: "linkdown", 0x20: "unresolved"}
PREFERENCES = {0: "medium", 1: "high", 3: "low"}
INVERT, UNRESOLVED = 0x2, 0x4
ACTIONS = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
LOOKUP, GOTO, NOP = 1, 2, 3
NO_SUPPRESSION = 0xFFFFFFFF
RULE_HEADER = 28
# FRA_*: those that say which packets a rule is for, in words below, and those that say nothing about that (flow, pad,
# protocol). Of the others a rule carries the number: what is not known of a rule must not be left out.
KNOWN_RULE_ATTRIBUTES = frozenset({1, 2, 3, 4, 6, *range(10, 25)})
PORT_MASKS = {28: "sport_mask", 29: "dport_mask"}


def texts() -> Iterator[Text | Gap]:
    for family, option, name in ((rt.INET, (), "ip"), (rt.INET6, ("-6",), "ip6")):
        routes = command("ip", "-j", *option, "route", "show", "table", "all")
        yield first_of(f"{name}-route.json", routes, _asked(listed, family))
        yield first_of(f"{name}-rule.json", command("ip", "-j", *option, "rule"), _asked(rules, family))


def _asked(read: Any, family: int) -> Source:
    return rt.source(partial(read, family=family))


# ---------------------------------------------------------------- routes


def listed(connection: Any, family: int) -> Iterator[rt.Item]:
    """The routes of all tables, without those that the kernel cached."""
    names = rt.names(connection)
    for message in connection.get_routes(family=family):
        if not message["flags"] & CLONED:
            yield dict(rt.without_none(_route(message, names)))


def _route(message: Any, names: dict[int, str]) -> Iterator[tuple[str, Any]]:
    attrs = rt.attributes_of(message)
    if message["type"] != 1:
        yield "type", rt.named(message["type"], rt.KINDS)
    length = message["dst_len"]
    unspecified = "0.0.0.0" if message["family"] == rt.INET else "::"  # noqa: S104 (no destination, nothing is bound)
    yield "dst", rt.prefix(attrs.get("RTA_DST", unspecified), length) if length else "default"
    if message["src_len"]:
        yield "from", rt.prefix(attrs["RTA_SRC"], message["src_len"])
    yield "tos", f"{message['tos']:#x}" if message["tos"] else None
    yield "encap", "unknown" if "RTA_ENCAP_TYPE" in attrs else None
    yield from _hop(attrs, names)
    table = attrs.get("RTA_TABLE", message["table"])
    yield "table", rt.named(table, rt.TABLES) if table != 254 else None
    yield "protocol", rt.named(message["proto"], rt.PROTOCOLS) if message["proto"] != 3 else None
    yield "scope", rt.named(message["scope"], rt.SCOPES) if message["scope"] else None
    yield "prefsrc", attrs.get("RTA_PREFSRC")
    yield "metric", attrs.get("RTA_PRIORITY")
    mtu = rt.attributes_of(attrs["RTA_METRICS"]).get("RTAX_MTU") if "RTA_METRICS" in attrs else None
    yield "metrics", [{"mtu": mtu}] if mtu else None
    yield "flags", rt.flags(message["flags"], HOP_FLAGS)
    if "RTA_PREF" in attrs:
        yield "pref", rt.named(attrs["RTA_PREF"], PREFERENCES)
    if "RTA_MULTIPATH" in attrs:
        yield "nexthops", [_one_of(hop, names) for hop in attrs["RTA_MULTIPATH"]]


def _one_of(hop: Any, names: dict[int, str]) -> rt.Item:
    members = [
        *_hop({**rt.attributes_of(hop), "RTA_OIF": hop["oif"]}, names),
        ("weight", hop["hops"] + 1),
        ("flags", rt.flags(hop["flags"], HOP_FLAGS)),
    ]
    return dict(rt.without_none(members))


def _hop(attrs: dict[str, Any], names: dict[int, str]) -> Iterator[tuple[str, Any]]:
    yield "gateway", attrs.get("RTA_GATEWAY")
    if "RTA_VIA" in attrs:
        via = str(attrs["RTA_VIA"]["addr"])
        yield "via", {"family": "inet" if ip_address(via).version == 4 else "inet6", "host": via}
    if "RTA_OIF" in attrs:
        yield "dev", names.get(attrs["RTA_OIF"], f"if{attrs['RTA_OIF']}")


# ---------------------------------------------------------------- rules


def rules(connection: Any, family: int) -> Iterator[rt.Item]:
    """The policy routing rules of a family in their order."""
    for message in connection.get_rules(family=family):
        yield dict(_rule(message))


def _rule(message: Any) -> Iterator[tuple[str, Any]]:
    attrs = rt.attributes_of(message)
    yield "priority", attrs.get("FRA_PRIORITY", 0)
    if message["flags"] & INVERT:
        yield "not", None
    if not message["src_len"]:
        yield "src", "all"
    for key in ("src", "dst"):
        length = message[f"{key}_len"]
        if length:
            address = attrs[f"FRA_{key.upper()}"]
            yield key, address
            if length != ip_address(address).max_prefixlen:
                yield f"{key}len", length
    if message["tos"]:
        yield "tos", f"{message['tos']:#x}"
    if "FRA_FWMARK" in attrs or attrs.get("FRA_FWMASK"):
        yield "fwmark", f"{attrs.get('FRA_FWMARK', 0):#x}"
        if attrs.get("FRA_FWMASK", NO_SUPPRESSION) != NO_SUPPRESSION:
            yield "fwmask", f"{attrs['FRA_FWMASK']:#x}"
    for key, name in (("iif", "FRA_IIFNAME"), ("oif", "FRA_OIFNAME")):
        if name in attrs:
            yield key, attrs[name]
    if attrs.get("FRA_L3MDEV"):
        yield "l3mdev", None
    yield from _selectors(attrs)
    yield from _unknown(message)
    table = attrs.get("FRA_TABLE", message["table"])
    action = message["action"]
    if table:
        yield "table", rt.named(table, rt.TABLES)
        if attrs.get("FRA_SUPPRESS_PREFIXLEN", NO_SUPPRESSION) != NO_SUPPRESSION:
            yield "suppress_prefixlen", attrs["FRA_SUPPRESS_PREFIXLEN"]
        if attrs.get("FRA_SUPPRESS_IFGROUP", NO_SUPPRESSION) != NO_SUPPRESSION:
            yield "suppress_ifgroup", attrs["FRA_SUPPRESS_IFGROUP"]
    if action == GOTO:
        yield "goto", attrs.get("FRA_GOTO")
        if message["flags"] & UNRESOLVED:
            yield "unresolved", None
    elif action == NOP:
        yield "nop", None
    elif action != LOOKUP:
        yield "action", rt.named(action, ACTIONS)


def _selectors(attrs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if "FRA_IP_PROTO" in attrs:
        yield "ipproto", PROTOCOL_NAMES.get(attrs["FRA_IP_PROTO"], str(attrs["FRA_IP_PROTO"]))
    for key, name in (("sport", "FRA_SPORT_RANGE"), ("dport", "FRA_DPORT_RANGE"), ("uid", "FRA_UID_RANGE")):
        if name in attrs:
            low, _, high = str(attrs[name]).partition(":")
            if low == high and key != "uid":
                yield key, int(low)
            else:
                yield from ((f"{key}_start", int(low)), (f"{key}_end", int(high)))
    if attrs.get("FRA_TUN_ID"):
        yield "tun_id", attrs["FRA_TUN_ID"]


def _unknown(message: Any) -> Iterator[tuple[str, Any]]:
    """What a newer kernel may say of a rule."""
    start = message.offset + RULE_HEADER
    for number, value in attributes(bytes(message.data[start : message.offset + message.length])).items():
        if number in PORT_MASKS:
            if value[:2] != b"\xff\xff":
                yield PORT_MASKS[number], value[:2].hex()
        elif number not in KNOWN_RULE_ATTRIBUTES:
            yield f"attribute {number}", value.hex()
