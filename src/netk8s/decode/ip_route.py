"""``ip -j route show table all``: routes of both families (iproute2's ip/iproute.c, ``print_route``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from msgspec.structs import replace

from netk8s.decode._iproute2 import gateway, prefix, tos
from netk8s.decode._json import JsonObject, arrays, outer_keys
from netk8s.model import At, Coverage, Dump, Fact, Net, NextHop, Route

NAME = "ip-route"
COMMAND = "ip -j route show table all"
_EVERY = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
# The destination of a tunnel header is spelled "dst" in the route's own object, after that of the route
# (ip/iproute_lwtunnel.c, print_encap_ip); a reader of JSON takes the last.
_SECOND_DST = re.compile(rb'("dst"[^{}]*?"encap"[^{}]*?)"dst"(?=\s*:)')
# Kinds that the kernel keeps in the table local unless somebody put them elsewhere by hand.
_LOCAL_KINDS = frozenset({"local", "broadcast", "anycast", "multicast"})


def sniff(dump: Dump) -> bool:
    """A JSON array of routes; ``flags`` is printed for every route, if empty."""
    keys = outer_keys(dump, "[")
    return {"dst", "flags"} <= keys and not keys & {"mac", "lladdr", "state", "addr_info", "ifindex", "priority"}


def decode(dump: Dump) -> Iterator[Fact]:
    """One Route per entry, and Coverage "route4" or "route6" for each family that has a route.

    With ``table all`` iproute2 prints the routes of both families, so that ``ip -6 -j route show table all``
    repeats some of them: the same route of two dumps differs in ``at`` alone. A route for some sources only
    has the flag ``from PREFIX``, one with a tunnel header the flag ``encap``. Raises DecodeError.
    """
    covered: set[str] = set()
    if dump.data.find(b'"encap"') >= 0:
        dump = replace(dump, data=_SECOND_DST.sub(rb'\1"encap_dst"', bytes(dump.data)))
    for at, items in arrays(dump, COMMAND):
        for fact in of_items(items, at):
            if not isinstance(fact, Coverage):
                yield fact
            elif fact.kind not in covered:
                covered.add(fact.kind)
                yield fact


def of_items(items: Sequence[JsonObject], at: At) -> Iterator[Coverage | Route]:
    """The same of the routes of one command's output, each with the members that its JSON has."""
    covered: set[int] = set()
    # A table is named only where the command did not choose one.
    unnamed = not any("table" in item.members for item in items)
    for item in items:
        route = _route(item, unnamed)
        if route.dst.version not in covered:
            covered.add(route.dst.version)
            yield Coverage(f"route{route.dst.version}", at)
        yield route


def _route(item: JsonObject, unnamed: bool) -> Route:
    kind = item.text("type") or "unicast"
    flags = item.texts("flags")
    mtu = next((m for m in (each.number("mtu") for each in item.children("metrics")) if m), None)
    hops = tuple(_hop(hop, hop.texts("flags"), mtu) for hop in item.children("nexthops"))
    single = _hop(item, flags, mtu)
    if not hops and (single.dev is not None or single.gateway is not None):
        hops = (single,)
    source = prefix(item, "from")
    extra = (*((f"from {source}",) if source else ()), *(("encap",) if "encap" in item.members else ()))
    return Route(
        dst=_destination(item, hops),
        kind=kind,
        nexthops=hops,
        table=item.word("table") or ("local" if unnamed and kind in _LOCAL_KINDS else "main"),
        prefsrc=item.addr("prefsrc"),
        metric=item.number("metric") or 0,
        scope=item.word("scope") or "global",
        protocol=item.word("protocol") or "boot",
        tos=_tos(item),
        flags=flags + extra,
        at=item.at,
    )


def _hop(item: JsonObject, flags: tuple[str, ...], mtu: int | None) -> NextHop:
    weight = item.number("weight", 1, 65536)
    return NextHop(item.text("dev"), gateway(item), 1 if weight is None else weight, "onlink" in flags, mtu)


def _tos(item: JsonObject) -> int:
    value = tos(item, "tos")
    if value is None and item.members.get("tos") is not None:
        raise item.wrong("tos", "a type of service as a number; take the dump with `ip -N -j route show table all`")
    return value or 0


def _destination(item: JsonObject, hops: tuple[NextHop, ...]) -> Net:
    """The destination; of "default" the family has to be told by the rest of the entry."""
    if item.text("dst") is None:
        raise item.wrong("dst", "the destination of the route")
    dst = prefix(item, "dst")
    if dst is not None:
        return dst
    # Only IPv6 routes have a router preference, and the kernel gives it with every one of them (RTA_PREF, 4.1).
    # Only IPv4 routes can have a next hop of the other family (RTA_VIA), so `via` is asked before the gateway.
    if "pref" in item.members:
        return _EVERY[6]
    if "via" in item.members or any("via" in hop.members for hop in item.children("nexthops")):
        return _EVERY[4]
    for found in (*(hop.gateway for hop in hops), item.addr("prefsrc")):
        if found is not None:
            return _EVERY[found.version]
    return _EVERY[4]
