"""Neighbour discovery of IPv6, which asks for MAC addresses by ICMPv6: unlike ARP it has to pass the rules of both ends.

Source: Linux net/ipv6/ndisc.c (ndisc_solicit, ndisc_send_skb: LOCAL_OUT; ndisc_recv_ns, ndisc_recv_na behind LOCAL_IN),
net/netfilter/nf_conntrack_proto_icmpv6.c (not tracked); RFC 4861.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from netk8s.kernel import hooks, targets
from netk8s.kernel.flight import Branch, Conn, Flight, steps_of, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.model import ICMPV6, Addr, Packet

_SOLICIT, _ADVERTISE = 135, 136
_ALL_SOLICITED = int(IPv6Address("ff02::1:ff00:0"))


def stopped(asker: Addr, target: Addr, by: tuple[Netns, str] | None, owner: tuple[Netns, str] | None) -> str:
    """Why ``asker`` does not learn the MAC address of ``target``, "" when no rule keeps it from that.

    ``by`` and ``owner``: the node that asks and the one that is asked, each with its device on the link; None for one
    whose rules nobody knows, a pod or a host outside.
    """
    group = IPv6Address(_ALL_SOLICITED | (int(target) & 0xFFFFFF))
    question = Packet(ICMPV6, asker, group, tcp_flags=frozenset(), icmp_type=_SOLICIT, icmp_code=0, ttl=255)
    answer = Packet(ICMPV6, target, asker, tcp_flags=frozenset(), icmp_type=_ADVERTISE, icmp_code=0, ttl=255)
    legs = ((by, question, "output"), (owner, question, "input"), (owner, answer, "output"), (by, answer, "input"))
    for end, packet, hook in legs:
        if end is not None and (why := _refused(*end, packet, hook)):
            what = "asks" if packet is question else "answers"
            return f"neighbour discovery, by which {asker if packet is question else target} {what}, is stopped: {why}"
    return ""


def _refused(netns: Netns, dev: str, packet: Packet, hook: str) -> str:
    """Why the packet does not pass the hook, "" when it may."""
    there = tuple_of(packet)
    out = hook == "output"
    flight = Flight(
        packet, Conn("UNTRACKED", "ORIGINAL", there, there.reversed()), iif=None if out else dev, oif=dev if out else None,
        local=out,
    )  # fmt: skip
    why = ""
    for verdict in hooks.run(hook, Branch(flight), netns):
        if verdict.kind not in (targets.DROP, targets.REJECT):
            return ""
        last = next((s.at for s in reversed(steps_of(verdict.branch.log)) if s.at is not None), None)
        why = f"{netns.name}: {'rejected' if verdict.kind == targets.REJECT else 'dropped'} in {hook.upper()} ({last})"
    return why
