"""What a node tells the sender of a packet that it does not pass on, and whether that is heard.

Sources: Linux net/ipv4/icmp.c (icmp_route_lookup, icmp_glue_bits), ip_forward.c (ip_exceeds_mtu), net/ipv6/icmp.c,
ip6_output.c (ip6_forward), netfilter/nf_reject_ipv4.c and nf_reject_ipv6.c (nf_send_reset), net/netfilter/nf_nat_core.c
(nf_nat_icmp_reply_translation), nf_conntrack_core.c (nf_conntrack_attach).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from msgspec.structs import replace

from netk8s.kernel import targets
from netk8s.kernel.flight import Conn, Tuple, tuple_of
from netk8s.kernel.netns import Netns
from netk8s.model import ICMP, ICMPV6, TCP, UNSPECIFIED, Packet, Way
from netk8s.trace import _sending, _walk
from netk8s.trace._state import DELIVERED, DROPPED, UNKNOWN, End, Past, Scene, Told, answering, same_port

RESET = frozenset({"RST", "ACK"})


def told(scene: Scene, way: Way, end: End, what: Told) -> Iterator[Way]:
    """Whether the sender hears of it, a process of the node itself too: that one is told by lo.

    Several ways, with odds, where what tells him has several next hops: some hear of it then.
    """
    for odds, lost in _told(scene, end, what):
        heard = replace(way, odds=way.odds * odds)
        if lost:
            reason = f"{way.reason}; {scene.netns[what.node].name} cannot tell the sender: {lost}"
            heard = replace(heard, verdict=DROPPED, reason=reason)
        yield heard


def _told(scene: Scene, end: End, what: Told) -> Iterator[tuple[Fraction, str]]:
    """(odds, why the sender does not hear of it, "" where he does or nobody knows)."""
    flight = end.branch.flight
    netns = scene.netns[what.node]
    there = tuple_of(flight.packet).reversed()
    if what.code is None and flight.has_physin:
        # nf_send_reset: out of the bridge's port by which the packet came in, past every hook.
        got, asked = (targets.endpoint_text(p.dst, p.dport) for p in (flight.packet, end.past.flow.packet))
        heard = same_port(there.sport, end.past.flow.packet.dport) and there.src == end.past.flow.packet.dst
        where = f"its reset goes back by the bridge's port untranslated, from {got}, and {asked} was asked"
        yield Fraction(1), "" if heard else where
        return
    kind = ICMP if flight.packet.family == 4 else ICMPV6
    error = _reset(there) if what.code is None else _icmp(netns, there, 3 if kind == ICMP else 1, what.code)
    ends = _ends(scene, netns, end.past, flight.conn, error)
    lost = [_lost(end.past.flow.packet, each) for each in ends]
    if sum(each.branch.odds for each in ends) == 1:
        yield from ((each.branch.odds, why) for each, why in zip(ends, lost, strict=True))
    else:
        # What is not known of the way back is not followed apart: one way that works is enough.
        yield Fraction(1), lost[0] if lost and all(lost) else ""


def _reset(there: Tuple) -> Packet:
    return Packet(TCP, there.src, there.dst, there.sport, there.dport, tcp_flags=RESET)


def _icmp(netns: Netns, there: Tuple, kind: int, code: int) -> Packet:
    """An ICMP error to who sent a packet: from the address that was asked if that is the node's, else from any of its own
    (icmp_route_lookup)."""
    source = there.src if netns.is_local(there.src) else UNSPECIFIED[there.dst.version]
    protocol = ICMP if there.dst.version == 4 else ICMPV6
    return Packet(protocol, source, there.dst, there.sport, there.dport, icmp_type=kind, icmp_code=code)


def _ends(scene: Scene, netns: Netns, past: Past, conn: Conn, error: Packet) -> list[End]:
    """Where an error about a packet with the entry ``conn`` comes to: it has that entry, as RELATED, and what translated
    the packet translates it (nf_conntrack_attach)."""
    back = conn.direction == "ORIGINAL"
    tracked = conn.ipvs is not None or conn.state not in ("INVALID", "UNTRACKED")
    related = replace(conn, state="RELATED", direction="REPLY" if back else "ORIGINAL") if tracked else None
    walk = _sending.send(error, netns, Past(past.flow, entries=past.entries), related)
    return [e for e in _walk.to_the_end(replace(scene, back=back), walk) if not e.branch.off_default]


def _lost(asked: Packet, end: End) -> str:
    """Why an error does not come to who is told, "" when it does or nobody knows. An ICMP error may be anybody's."""
    packet = end.branch.flight.packet
    if end.verdict not in (DELIVERED, UNKNOWN):
        return end.reason
    known = end.verdict == UNKNOWN or packet.protocol in (ICMP, ICMPV6) or recognised(asked, packet)
    return "" if known else wrong_address(asked, end)


def recognised(asked: Packet, answer: Packet) -> bool:
    """Whether a packet is one of the connection to who asked: it comes from where it asked."""
    return same_port(answer.sport, asked.dport) and answer.src == asked.dst and answer.dst == asked.src


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
    # Its size is asked for before POSTROUTING translates the packet's source.
    ends, reply = entry.original, entry.reply
    there = Tuple(reply.protocol, reply.src, reply.sport, ends.src, ends.sport)
    conn = answering(entry, _reset(there)) if answer else entry
    there = there.reversed() if answer else there
    error = _icmp(netns, there, *((3, 4) if there.dst.version == 4 else (2, 0)))
    found = _ends(scene, netns, past, conn, error)
    if any(e.verdict == DELIVERED for e in found):
        return ""
    if not found or any(e.verdict == UNKNOWN for e in found):
        return None
    return found[0].reason
