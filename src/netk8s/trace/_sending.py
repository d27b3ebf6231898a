"""What a process of a node or IPVS sends: the socket's route and source, OUTPUT, re-routing.

Sources: Linux net/ipv4/route.c (ip_route_output_key_hash), ip_output.c, netfilter.c (ip_route_me_harder),
net/netfilter/ipvs/ip_vs_xmit.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from msgspec.structs import replace

from netk8s.kernel import hooks, ipvs, targets
from netk8s.kernel.flight import Branch, Conn, Flight
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.kernel.routing import Lookup, select_address, select_address6
from netk8s.model import ICMP, Addr, Choice, Missing, NextHop, Packet, Step
from netk8s.trace import _passing, _rerouting
from netk8s.trace._state import (
    UNKNOWN,
    UNREACHABLE,
    End,
    Past,
    Walk,
    decision,
    fresh,
    hop_done,
    new_conn,
)


def send(packet: Packet, netns: Netns, past: Past, conn: Conn | None = None, choices: tuple[Choice, ...] = ()) -> Walk:
    """A packet that a process of the node sends: source address, OUTPUT, re-routing, POSTROUTING.

    ``conn``: its entry, None for a first packet. ``choices``: what was asked and answered before.
    """
    branch = Branch(fresh(packet), choices=choices)
    refused = _passing.unread(netns, branch, past)
    if refused is not None:
        yield refused
        return
    chosen = not packet.src.is_unspecified
    if not netns.routes_known(packet.family):
        yield from _send_blindly(branch, netns, past, conn)
        return
    for odds, found, hop, source, because in _socket_ways(netns, packet):
        if hop is None:
            yield _not_sent(branch.dice(odds), netns, past, found)
            continue
        dev = "lo" if found.kind == "local" else hop.dev
        nexthop = hop.gateway
        if source is None or dev is None:
            reason = f"{netns.name} has no source address towards {packet.dst}: {because}"
            yield End(branch, past, UNREACHABLE, reason)
            continue
        sent = packet.replace(src=source)
        asked = replace(past, flow=replace(past.flow, packet=sent)) if not chosen and past.untouched else past
        way = "lo (the address is local)" if found.kind == "local" else f"{dev}{f' via {nexthop}' if nexthop else ''}"
        note = "" if chosen else f", source {source}: {because}"
        step = decision("routing", f"sends by {way}{note}", found.at)
        flight = fresh(sent).with_(
            oif=dev,
            nexthop=nexthop,
            route_mtu=hop.mtu,
            local=True,
            conn=conn or new_conn(sent),
        )
        yield from output(branch.dice(odds).fly(flight).step(step), netns, asked)


def _not_sent(branch: Branch, netns: Netns, past: Past, found: Lookup) -> End:
    dst = branch.flight.packet.dst
    reason = {
        "none": f"{netns.name} has no route to {dst}: connect() fails before any rule",
        "blackhole": f"{netns.name} has a blackhole route for {dst}: connect() fails",
        "unreachable": f"{netns.name} has an unreachable route for {dst}: connect() fails",
        "prohibit": f"{netns.name} has a prohibit route for {dst}: connect() fails",
    }.get(found.kind, found.why or f"{dst} is a {found.kind} address")
    verdict = UNKNOWN if found.kind not in ("none", "blackhole", "unreachable", "prohibit") else UNREACHABLE
    done = branch.step(decision("routing", reason, found.at))
    return End(done, hop_done(done, netns, past), verdict, reason)


def _socket_ways(netns: Netns, packet: Packet) -> Iterator[tuple[Fraction, Lookup, NextHop | None, Addr | None, str]]:
    """(odds, route, next hop, source, why that source) of what a process sends; no next hop where it cannot.

    A socket that has no address gets one from a first look for a route. IPv4 looks again with it
    (ip_route_connect), so rules that ask for the source decide the way; IPv6 does only when there was no route
    (ip6_dst_lookup_tail).
    """

    def ask(src: Addr | None) -> Lookup:
        return netns.fib(packet.family).lookup(
            packet.dst, src, iif="lo", mark=packet.mark, protocol=packet.protocol, sport=packet.sport,
            dport=packet.dport,
        )  # fmt: skip

    if not packet.src.is_unspecified:
        found = ask(packet.src)
        for odds, hop in _next_hops(found):
            yield odds, found, hop, packet.src, "the socket has it"
        return
    first = ask(None)
    for odds, hop in _next_hops(first):
        if hop is not None:
            source, because = _source(netns, first, hop, packet)
        elif packet.family == 6 and first.kind != "unknown":
            address, because = select_address6(netns.addresses, None, packet.dst)
            source = address.ip if address is not None else None
        else:
            source, because = None, ""
        error = packet.protocol == ICMP and packet.icmp_type == 3  # icmp_route_lookup asks once
        if source is None or error or (packet.family == 6 and hop is not None):
            yield odds, first, hop, source, because
            continue
        again = ask(source)
        for more, there in _next_hops(again):
            yield odds * more, again, there, source, because


def _source(netns: Netns, found: Lookup, hop: NextHop, packet: Packet) -> tuple[Addr | None, str]:
    """The source address of a socket that was not bound (fib_result_prefsrc, ip6_route_get_saddr)."""
    route = found.route
    if route is not None and route.prefsrc is not None:
        return route.prefsrc, "the route's src"
    if found.kind == "local":
        return packet.dst, "the local address itself"
    dev = hop.dev or ""
    if packet.family == 6:
        address, because = select_address6(netns.addresses, dev, packet.dst)
    else:
        # Without a gateway any address of the device will do (fib_info_update_nhc_saddr).
        localnet = bool(netns.dev_setting("route_localnet", dev))
        scope = route.scope if route is not None else "global"
        address, because = select_address(
            netns.addresses, netns.devices, dev, hop.gateway, scope=scope, route_localnet=localnet
        )
    return (address.ip if address is not None else None), because


def _send_blindly(branch: Branch, netns: Netns, past: Past, conn: Conn | None) -> Walk:
    packet = branch.flight.packet
    what = f"IPv{packet.family} routes and addresses of {netns.name}"
    past = past.lacks(Missing(what, "the source address and the way out", node=netns.name))
    if packet.src.is_unspecified:
        yield End(branch, past, UNKNOWN, f"no dump tells which source address {netns.name} sends from")
        return
    local = netns.is_local(packet.dst)
    flight = fresh(packet).with_(
        oif="lo" if local else None, oif_known=bool(local), local=True,
        conn=conn or new_conn(packet),
    )  # fmt: skip
    branch = branch.fly(flight).assume(
        f"no dump has the routes of {netns.name}: a route to {packet.dst} is taken to be there"
    )
    yield from output(branch.step(decision("routing", "sends (no dump has the routes)")), netns, past)


def output(branch: Branch, netns: Netns, past: Past, came: tuple[str | None, bool] | None = None) -> Walk:
    """OUTPUT and what follows. ``came``: the device that a packet of IPVS came in by, and whether it is known."""

    def after(table: str, before: Flight, passed: Branch) -> Iterator[Verdict]:
        packet, old = passed.flight.packet, before.packet
        moved = packet.dst != old.dst or packet.src != old.src
        marked = packet.mark != old.mark
        again = {
            "mangle": moved or marked,
            "nat": moved or _rerouting.behind_nat(passed.flight, netns),
            "ipvs": _rerouting.behind_ipvs(before, passed.flight, netns),
        }
        yield from _rerouting.reroute(passed, netns) if again.get(table) else (Verdict(passed, targets.ACCEPT),)

    for verdict in hooks.run("output", branch, netns, after):
        if verdict.kind == ipvs.STOLEN:
            yield from ipvs_sends(verdict.branch, netns, past)
            continue
        if verdict.kind != targets.ACCEPT:
            yield _passing.stopped(verdict, netns, past)
            continue
        flight = _rerouting.turned(verdict.branch.flight)
        if came is not None:
            flight = flight.with_(iif=came[0], iif_known=came[1])
        yield from _passing.postrouting(verdict.branch.fly(flight), netns, past)


def ipvs_sends(branch: Branch, netns: Netns, past: Past) -> Walk:
    """IPVS has taken a packet out of INPUT or OUTPUT: a route of its own, then OUTPUT (ip_vs_nat_send_or_cont)."""
    flight = branch.flight
    packet = flight.packet
    leaving = flight.with_(iif=None, iif_known=True, physout=None, rerouted=None)
    came = (flight.iif, flight.iif_known)
    if not netns.routes_known(packet.family):
        blind = branch.fly(leaving.with_(oif=None, oif_known=False, nexthop=None))
        step = Step("routing", "", "", None, None, "IPVS sends it on (no dump has the routes)", assumed=True)
        yield from output(blind.step(step), netns, past, came)
        return
    # do_output_route4 and __ip_vs_route_output_v6 ask with the destination alone.
    found = netns.fib(packet.family).lookup(packet.dst, None, iif="lo")
    if found.kind not in ("unicast", "local"):
        yield _passing.no_route(branch, netns, past, found)
        return
    for odds, hop in found.ways:
        via = f" via {hop.gateway}" if hop.gateway else ""
        onward = branch.dice(odds)
        onward = onward.step(decision("routing", f"IPVS sends it by {hop.dev}{via}", found.at))
        flown = leaving.with_(oif=hop.dev, oif_known=hop.dev is not None, nexthop=hop.gateway, route_mtu=hop.mtu)
        yield from output(onward.fly(flown), netns, past, came)


def _next_hops(found: Lookup) -> tuple[tuple[Fraction, NextHop | None], ...]:
    """The next hops of what a local sender's lookup found, (1, None) where it found no way."""
    if found.kind == "unicast":
        return found.ways
    return found.ways[:1] if found.kind == "local" else ((Fraction(1), None),)
