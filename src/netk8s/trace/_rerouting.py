"""Routes that are asked for again behind a table or IPVS, because the packet is another one since.

Sources: Linux net/ipv4/netfilter.c (ip_route_me_harder), net/netfilter/nf_nat_proto.c (nf_nat_ipv4_local_fn),
net/netfilter/ipvs/ip_vs_core.c (ip_vs_route_me_harder).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.kernel import hooks, targets
from netk8s.kernel.flight import Branch, Flight
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import UDP, NextHop
from netk8s.trace._state import UNREACHABLE, decision


def turned(flight: Flight) -> Flight:
    """The packet with what was found: a hook's rules see the device of the first decision, what follows the second one's."""
    hop = flight.rerouted
    if hop is None:
        return flight
    there = flight.with_(oif=hop.dev, oif_known=hop.dev is not None, nexthop=hop.gateway, rerouted=None)
    return there.with_(route_mtu=hop.mtu)


def behind_ipvs(before: Flight, flight: Flight, netns: Netns) -> bool:
    """Whether IPVS asks for a route of an answer that now has a virtual server's address."""
    answered = flight.ipvs_property and not before.ipvs_property and flight.conn.direction == "REPLY"
    asks = netns.flag("net.ipv4.vs.snat_reroute", default=True) is not False
    return answered and asks and flight.oif != "lo" and netns.routes_known(flight.packet.family)


def behind_nat(flight: Flight, netns: Netns) -> bool:
    """Whether the nat function of OUTPUT asks for a route again though it changes nothing (nf_nat_ipv4_local_fn).

    It compares the two sides of the entry, and IPVS has put its real server into one of them. It is there with all its
    hooks as soon as any nat chain is (nf_nat_register_fn).
    """
    conn = flight.conn
    if not flight.ipvs_property or conn.state in ("UNTRACKED", "INVALID") or conn.original.dst == conn.reply.src:
        return False
    family = flight.packet.family
    return any(entry.nat for hook in hooks.SIDE for stage in hooks.stages(hook, family, netns) for entry in stage)


def reroute(branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """ip_route_me_harder behind a change of address or mark in OUTPUT."""
    flight = branch.flight
    packet = flight.packet
    if not netns.routes_known(packet.family):
        local = netns.is_local(packet.dst)
        hop = NextHop("lo") if local else NextHop(None)
        yield Verdict(branch.fly(flight.with_(rerouted=hop)), targets.ACCEPT)
        return
    found = netns.fib(packet.family).lookup(
        packet.dst, packet.src, iif="lo", mark=packet.mark, protocol=packet.protocol, sport=packet.sport,
        dport=packet.dport,
    )  # fmt: skip
    if found.kind == "local":
        step = decision("routing", "re-routed: the new destination is local", found.at)
        yield Verdict(branch.step(step).fly(flight.with_(rerouted=NextHop("lo"))), targets.ACCEPT)
    elif found.kind == "unicast":
        for odds, hop in found.ways:
            via = f" via {hop.gateway}" if hop.gateway else ""
            step = decision("routing", f"re-routed: leaves by {hop.dev}{via}", found.at)
            onward = branch.dice(odds)
            if flight.ipvs_property and (hop.dev, hop.gateway, hop.mtu) == (
                flight.oif,
                flight.nexthop,
                flight.route_mtu,
            ):
                yield Verdict(onward, targets.ACCEPT)
                continue
            if (
                packet.src.is_loopback
                and hop.dev not in (None, "lo")
                and not netns.dev_setting("route_localnet", hop.dev)
            ):
                # __mkroute_output: the call of a UDP sender fails (EINVAL), TCP tries again until it gives up.
                why = f"it sends nothing from {packet.src} by {hop.dev} (route_localnet is 0)"
                untold = onward.step(decision("routing", why, found.at))
                if packet.protocol == UDP:
                    yield Verdict(untold, UNREACHABLE, f"{netns.name}: {why}")
                else:
                    yield Verdict(untold, targets.DROP, why)
                continue
            yield Verdict(onward.step(step).fly(flight.with_(rerouted=hop)), targets.ACCEPT)
    elif found.kind == "unknown":
        yield Verdict(branch, targets.UNKNOWN, found.why)
    else:
        # NF_DROP_ERR: the sender gets the routing error, unless IPVS sends.
        why = f"has no route to {packet.dst} after translation ({found.kind} route)"
        told = branch.step(decision("routing", f"{netns.name} {why}", found.at))
        if flight.ipvs_property:
            yield Verdict(told, targets.DROP, f"it {why}")
        else:
            yield Verdict(told, UNREACHABLE, f"{netns.name} {why}")
