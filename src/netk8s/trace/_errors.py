"""What a node tells the sender of a packet that it does not pass on, and whether that is heard.

Sources: Linux net/ipv4/icmp.c (icmp_route_lookup), ip_forward.c (ip_exceeds_mtu), net/ipv6/ip6_output.c (ip6_forward),
net/netfilter/nf_nat_core.c (nf_nat_icmp_reply_translation).
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from netk8s.kernel import targets
from netk8s.kernel.flight import Conn
from netk8s.kernel.netns import Netns
from netk8s.model import ICMP, ICMPV6, TCP, Addr, Packet, Way
from netk8s.trace import _sending, _walk
from netk8s.trace._state import DELIVERED, DROPPED, UNKNOWN, End, Past, Scene, answering, same_port

RESET = frozenset({"RST", "ACK"})


def told(scene: Scene, way: Way, end: End) -> Way:
    """Whether the sender hears of it: the error goes back like an answer, and what it goes through is translated alike.

    An ICMP error has an address of the node that sends it (icmp_route_lookup) and passes as RELATED to the flow it tells of.
    """
    packet = way.packet
    netns = scene.netns[end.told_by or ""]
    own = end.past.flow.origin == "node" and end.past.flow.node == netns.name
    entry = next((c for n, c in reversed(end.past.entries) if n == netns.name), None)
    if own or entry is None:
        return way
    there = entry.reply
    error = Packet(packet.protocol, there.src, there.dst, there.sport, there.dport, tcp_flags=RESET)
    conn = answering(entry, error)
    if "tcp-reset" not in way.reason:
        kind, code = (ICMP, 3) if packet.family == 4 else (ICMPV6, 1)
        own_address = there.src if netns.is_local(there.src) else _unspecified(packet.family)
        error = error.replace(src=own_address, protocol=kind, tcp_flags=frozenset(), icmp_type=code, icmp_code=1)
        conn = replace(conn, state="RELATED")
    past = Past(end.past.flow, entries=end.past.entries)
    walk = _sending.send(error, netns, past, conn)
    ends = [e for e in _walk.to_the_end(replace(scene, back=True), walk) if not e.branch.off_default]
    lost = [why for e in ends if (why := unheard(end.past.flow.packet, e))]
    if not lost or len(lost) < len(ends):
        return way
    silence = f"{way.reason}; {netns.name} cannot tell the sender: {lost[0]}"
    return replace(way, verdict=DROPPED, reason=silence)


def unheard(asked: Packet, end: End) -> str:
    """Why an error does not come to who is told, "" when it does or nobody knows. An ICMP error may be anybody's."""
    packet = end.branch.flight.packet
    if end.verdict not in (DELIVERED, UNKNOWN):
        return end.reason
    known = end.verdict == UNKNOWN or packet.protocol in (ICMP, ICMPV6) or recognised(asked, packet)
    return "" if known else wrong_address(asked, end)


def recognised(asked: Packet, answer: Packet) -> bool:
    """Whether a packet is one of the connection to who asked: it comes from where it asked."""
    return same_port(answer.sport, asked.dport) and answer.src == asked.dst and answer.dst == asked.src


def _unspecified(family: int) -> Addr:
    return IPv4Address(0) if family == 4 else IPv6Address(0)


def wrong_address(asked: Packet, end: End) -> str:
    packet = end.branch.flight.packet
    got = targets.endpoint_text(packet.src, packet.sport)
    wanted = targets.endpoint_text(asked.dst, asked.dport)
    if packet.dst != asked.src:
        return f"the answer goes to {packet.dst}, and {asked.src} asked"
    changed = [each.node for each in end.branch.flight.rewrites if each.after == packet.src]
    if changed:
        return f"{changed[-1]} translates the answer, which comes from {got}, but {wanted} was asked"
    return f"the answer bypasses the node that translated the packet and comes from {got}, but {wanted} was asked"


def seen_of_a_stranger(asked: Packet, end: End) -> str:
    """What the client makes of an answer from an address that it did not ask."""
    if end.branch.flight.packet.dst != asked.src:
        return ""
    if asked.protocol == TCP:
        return "; the client resets it as a stranger's and waits for its own until it times out"
    return "; a client whose socket is connected does not take it and waits on"


def too_large_untold(scene: Scene, netns: Netns, past: Past, entry: Conn, *, answer: bool) -> str | None:
    """Why a sender does not hear from a node that its packet is too large, "" where it does, None if not known.

    ``entry``: the node's own of the connection. ``answer``: it is the entry's answer that is too large.
    """
    sender = entry.reply.src if answer else entry.original.src
    kind, code, number = (ICMP, 3, 4) if sender.version == 4 else (ICMPV6, 2, 0)
    error = Packet(kind, _unspecified(sender.version), sender, None, None, icmp_type=code, icmp_code=number)
    conn = replace(entry, state="RELATED") if answer else replace(answering(entry, error), state="RELATED")
    walk = _sending.send(error, netns, Past(past.flow, entries=past.entries), conn)
    ends = [e for e in _walk.to_the_end(replace(scene, back=not answer), walk) if not e.branch.off_default]
    if any(e.verdict == DELIVERED for e in ends):
        return ""
    if not ends or any(e.verdict == UNKNOWN for e in ends):
        return None
    return ends[0].reason
