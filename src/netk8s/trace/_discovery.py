"""Neighbour discovery of IPv6, which asks for MAC addresses by ICMPv6: unlike ARP it has to pass the rules of both ends.

Source: Linux net/ipv6/ndisc.c (ndisc_solicit, ndisc_send_skb: LOCAL_OUT; ndisc_recv_ns, ndisc_recv_na behind LOCAL_IN),
net/bridge/br_netfilter_ipv6.c (br_nf_pre_routing_ipv6),
net/netfilter/nf_conntrack_proto_icmpv6.c (not tracked); RFC 4861.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address

from netk8s.kernel import hooks, targets
from netk8s.kernel.flight import Branch, Conn, Flight, steps_of, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.model import ICMPV6, Addr, Packet

_SOLICIT, _ADVERTISE = 135, 136
_ALL_SOLICITED = int(IPv6Address("ff02::1:ff00:0"))
_OUT: Sequence[str] = ("output", "postrouting")
_IN: Sequence[str] = ("prerouting", "input")
_ACROSS: Sequence[str] = ("prerouting", "forward", "postrouting")


def stopped(
    asker: Addr,
    target: Addr,
    by: tuple[Netns, str] | None,
    owner: tuple[Netns, str] | None,
    across: tuple[Netns, str] | None = None,
) -> str:
    """Why ``asker`` does not learn the MAC address of ``target``, "" when no rule keeps it from that.

    ``by`` and ``owner``: the node that asks and the one that is asked, each with its device on the link; None for one
    whose rules nobody knows, a pod or a host outside. ``across``: the node and its bridge whose rules see what goes
    from port to port (br_netfilter).
    """
    group = IPv6Address(_ALL_SOLICITED | (int(target) & 0xFFFFFF))
    question = Packet(ICMPV6, asker, group, tcp_flags=frozenset(), icmp_type=_SOLICIT, icmp_code=0, ttl=255)
    answer = Packet(ICMPV6, target, asker, tcp_flags=frozenset(), icmp_type=_ADVERTISE, icmp_code=0, ttl=255)
    ways = (
        (question, ((by, _OUT), (across, _ACROSS), (owner, _IN))),
        (answer, ((owner, _OUT), (across, _ACROSS), (by, _IN))),
    )
    for packet, places in ways:
        who = f"{asker} asks" if packet is question else f"{target} answers"
        for end, passed in places:
            if end is not None and (why := _refused(*end, packet, passed)):
                return f"neighbour discovery, by which {who}, is stopped: {why}"
    return ""


def _refused(netns: Netns, dev: str, packet: Packet, hooks_passed: Sequence[str]) -> str:
    """Why the packet does not pass the hooks, "" when it may."""
    there = tuple_of(packet)
    across = hooks_passed is _ACROSS
    flight = Flight(
        packet, Conn("UNTRACKED", "ORIGINAL", there, there.reversed()), local=hooks_passed is _OUT,
        has_physin=across, bridged=across,
    )  # fmt: skip
    branches = [Branch(flight)]
    for hook in hooks_passed:
        passed, why = [], ""
        for branch in branches:
            iif = dev if hook in ("prerouting", "input", "forward") else None
            oif = dev if hook in ("output", "forward", "postrouting") else None
            for verdict in hooks.run(hook, branch.fly(branch.flight.with_(iif=iif, oif=oif)), netns):
                if verdict.kind not in (targets.DROP, targets.REJECT):
                    passed.append(verdict.branch)
                    continue
                last = next((s.at for s in reversed(steps_of(verdict.branch.log)) if s.at is not None), None)
                done = "rejected" if verdict.kind == targets.REJECT else "dropped"
                why = f"{netns.name}: {done} in {hook.upper()} ({last})"
        if not passed:
            return why
        branches = passed
    return ""
