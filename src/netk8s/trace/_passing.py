"""FORWARD, POSTROUTING and the way out of a node, and what ends a walk there.

Sources: Linux net/ipv4/ip_forward.c, ip_output.c, route.c, net/ipv6/route.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netk8s.kernel import hooks, targets
from netk8s.kernel.flight import Branch, Flight
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.kernel.routing import Lookup
from netk8s.model import Missing, NextHop, Step
from netk8s.trace import _rerouting
from netk8s.trace._state import (
    DROPPED,
    REFUSED,
    UNKNOWN,
    UNREACHABLE,
    End,
    Looping,
    OnLink,
    Past,
    Told,
    Walk,
    decision,
    hop_done,
)


def unread(netns: Netns, branch: Branch, past: Past) -> End | None:
    """The end of a walk on a node whose way of handling Services is not followed."""
    family = branch.flight.packet.family
    if not netns.rules_known(family):
        words = "iptables" if family == 4 else "ip6tables"
        past = past.lacks(Missing(f"{words}-save of {netns.name}", "the rules the packet meets there", node=netns.name))
        return End(branch, past, UNKNOWN, f"no {words} dump of {netns.name}")
    if netns.node.opaque:
        return End(branch, past, UNKNOWN, f"{netns.name}: {netns.node.opaque}")
    return None


def forward(branch: Branch, netns: Netns, past: Past, hop: NextHop, text: str, found: Lookup | None) -> Walk:
    flight = branch.flight
    step = Step("routing", "", "", None, found.at if found else None, text, assumed=hop.dev is None)
    if not flight.bridged and flight.packet.ttl <= 1:
        reason = f"the packet's TTL is used up at {netns.name} (time exceeded)"
        done = branch.step(decision("routing", reason, found.at if found else None))
        yield End(done, hop_done(done, netns, past), DROPPED, reason)
        return
    # ip_forward takes one off before FORWARD; a bridge does not.
    packet = flight.packet if flight.bridged else flight.packet.replace(ttl=flight.packet.ttl - 1)
    leaving = flight.with_(packet=packet, oif=hop.dev, oif_known=hop.dev is not None, nexthop=hop.gateway)
    leaving = leaving.with_(route_mtu=hop.mtu)

    def after(table: str, before: Flight, passed: Branch) -> Iterator[Verdict]:
        again = table == "ipvs" and _rerouting.behind_ipvs(before, passed.flight, netns)
        yield from _rerouting.reroute(passed, netns) if again else (Verdict(passed, targets.ACCEPT),)

    for verdict in hooks.run("forward", branch.step(step).fly(leaving), netns, after):
        if verdict.kind != targets.ACCEPT:
            yield stopped(verdict, netns, past)
            continue
        flight = verdict.branch.flight
        # A bridge has chosen its port by then.
        flight = flight.with_(rerouted=None) if flight.bridged else _rerouting.turned(flight)
        yield from postrouting(verdict.branch.fly(flight), netns, past)


def postrouting(branch: Branch, netns: Netns, past: Past) -> Walk:
    flight = branch.flight
    iif, iif_known = flight.iif, flight.iif_known
    # ip_output hands the device a forwarded packet came in by to POSTROUTING (Linux 5.7); br_netfilter does not.
    inward = flight.with_(iif=None, iif_known=True) if flight.bridged else flight
    for verdict in hooks.run("postrouting", branch.fly(inward), netns):
        if verdict.kind != targets.ACCEPT:
            yield stopped(verdict, netns, past)
            continue
        there = verdict.branch.fly(verdict.branch.flight.with_(iif=iif, iif_known=iif_known))
        yield from _emit(there, netns, past)


def _emit(branch: Branch, netns: Netns, past: Past) -> Walk:
    """The packet leaves by its device: back in by lo, onto a link, or into the dark."""
    flight = branch.flight
    if flight.oif == "lo":
        yield Looping(branch, netns, past)
    else:
        yield OnLink(branch, netns, hop_done(branch, netns, past), flight.oif, flight.nexthop or flight.packet.dst)


_CODES: Mapping[tuple[int, str], int] = {
    (4, "none"): 0, (4, "unreachable"): 1, (4, "prohibit"): 13, (6, "none"): 0, (6, "unreachable"): 0, (6, "prohibit"): 1,
}  # fmt: skip
"""What a router that has no way tells of it (ip_error, ip6_pkt_drop): the code of "destination unreachable"."""


def no_route(branch: Branch, netns: Netns, past: Past, found: Lookup) -> End:
    packet = branch.flight.packet
    words = {
        "none": (UNREACHABLE, f"{netns.name} has no route to {packet.dst}"),
        "unreachable": (UNREACHABLE, f"{netns.name} has an unreachable route for {packet.dst}"),
        "prohibit": (UNREACHABLE, f"{netns.name} has a prohibit route for {packet.dst}"),
        "blackhole": (DROPPED, f"{netns.name} has a blackhole route for {packet.dst}"),
        "unknown": (UNKNOWN, found.why),
    }
    verdict, reason = words.get(found.kind, (UNKNOWN, f"{packet.dst} is a {found.kind} address of {netns.name}"))
    if found.at is not None and found.at.origin:
        reason += f" ({found.at})"
    done = branch.step(decision("routing", reason, found.at))
    code = _CODES.get((packet.family, found.kind))
    told = Told(netns.name, code) if code is not None else None
    return End(done, hop_done(done, netns, past), verdict, reason, told=told)


def stopped(verdict: Verdict, netns: Netns, past: Past) -> End:
    branch = verdict.branch
    past = hop_done(branch, netns, past)
    if verdict.missing is not None:
        past = past.lacks(verdict.missing)
    if verdict.kind == targets.DROP:
        return End(branch, past, DROPPED, f"{netns.name}: {verdict.detail}")
    if verdict.kind == targets.REJECT:
        where = f" by the rule at {verdict.rule.at}" if verdict.rule is not None else ""
        kind = targets.reject_verdict(verdict.detail, branch.flight.packet)
        reason = f"{netns.name}: rejected with {verdict.detail}{where}"
        code = targets.reject_code(verdict.detail, branch.flight.packet.family)
        return End(branch, past, kind, reason, told=Told(netns.name, code))
    if verdict.kind in (UNREACHABLE, REFUSED):
        return End(branch, past, verdict.kind, verdict.detail)
    return End(branch, past, UNKNOWN, verdict.detail)
