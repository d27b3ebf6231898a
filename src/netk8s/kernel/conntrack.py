"""Conntrack: which entry a packet belongs to, and what an entry of an earlier packet makes of it.

Sources: Linux net/netfilter/nf_conntrack_core.c (nf_conntrack_in, resolve_normal_ct), nf_nat_core.c (nf_nat_inet_fn,
nf_nat_packet), nf_conntrack_proto_tcp.c (tcp_valid_flags, tcp_conntracks, tcp_new, nf_conntrack_tcp_packet),
nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c (valid_new, noct_valid_new).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.kernel import ipvs, targets
from netk8s.kernel.flight import Branch, Conn, Flight, Tuple, tuple_of
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import (
    ICMP,
    ICMPV6,
    TCP,
    Addr,
    ConntrackEntry,
    ConntrackTuple,
    Packet,
    Rewrite,
    Step,
)

NEW, INVALID, UNTRACKED, ESTABLISHED = "NEW", "INVALID", "UNTRACKED", "ESTABLISHED"
PRIORITY = -200
"""NF_IP_PRI_CONNTRACK, at PREROUTING and OUTPUT."""

_OVER = frozenset({"TIME_WAIT", "CLOSE"})

_VALID_FLAGS = frozenset(
    frozenset(flags.split())
    for flags in ("SYN", "SYN URG", "SYN ACK", "RST", "RST ACK", "FIN ACK", "FIN ACK URG", "ACK", "ACK URG")
)
"""Combinations that TCP knows, PSH and the ECN bits left aside."""
_ICMP_OPENS = frozenset({8, 13, 15, 17})
_ICMPV6_OPENS = frozenset({128, 139})
_ICMPV6_UNTRACKED = frozenset({*range(130, 138), 143})
"""Multicast listener and neighbour discovery."""


def first_state(packet: Packet, *, loose: bool = True) -> str:
    """NEW for a packet that opens an entry, INVALID for one that cannot, UNTRACKED for what is never tracked.

    ``loose``: net.netfilter.nf_conntrack_tcp_loose, an ACK alone opens an entry (a connection picked up in the middle).
    """
    if packet.protocol == TCP:
        flags = packet.tcp_flags - {"PSH", "ECE", "CWR"}
        if flags not in _VALID_FLAGS:
            return INVALID
        if flags & {"RST", "FIN"}:
            return INVALID
        if "SYN" in flags:
            return INVALID if "ACK" in flags else NEW
        return NEW if loose else INVALID
    if packet.protocol == ICMP and packet.icmp_type is not None:
        return NEW if packet.icmp_type in _ICMP_OPENS else INVALID
    if packet.protocol == ICMPV6 and packet.icmp_type is not None:
        if packet.icmp_type in _ICMPV6_UNTRACKED:
            return UNTRACKED
        return NEW if packet.icmp_type in _ICMPV6_OPENS else INVALID
    return NEW


# ---------------------------------------------------------------- entries of earlier packets


def run(hook: str, branch: Branch, netns: Netns) -> Iterator[Verdict]:
    """The packet with the entry that a dump lists for it, or as it came.

    Only a packet whose source port is asked for can belong to an earlier connection.
    """
    flight = branch.flight
    conn = flight.conn
    # Over lo and out of IPVS a packet comes with its entry.
    fresh = conn.state in (NEW, INVALID) and not (conn.dst_bound or conn.src_bound or flight.looped)
    entry = _listed(flight, netns) if fresh and conn.ipvs is None and flight.src_known else None
    if entry is None:
        yield Verdict(branch, targets.ACCEPT)
        return
    if _reopens(entry, flight.packet):
        text = f"the connection at {entry.at} is over ({entry.state}): a new one from that port takes its place"
        yield Verdict(branch.assume(text), targets.ACCEPT)
        return
    found = _conn(entry, flight.packet, netns)
    packet = flight.packet
    if packet.protocol == TCP and entry.state != "SYN_SENT":
        # A packet of a connection that is open: not the SYN of the question.
        packet = packet.replace(tcp_flags=frozenset({"ACK"}))
    words = "answer of" if found.direction == "REPLY" else "entry of"
    step = Step(
        hook, "", "", None, entry.at, f"conntrack: {words} an earlier connection decides; the nat rules are not asked"
    )
    yield Verdict(branch.fly(flight.with_(conn=found, packet=packet)).step(step), targets.ACCEPT)


def translate(hook: str, branch: Branch, netns: Netns, *, destination: bool) -> Branch:
    """The packet with one side as its entry has it (nf_nat_packet). What is so already is left."""
    flight = branch.flight
    packet, conn = flight.packet, flight.conn
    assert conn.entry is not None  # noqa: S101 - asked for packets of a listed entry only
    if destination:
        if not conn.dnat or conn.ipvs is not None:
            return branch
        moved = packet.replace(dst=conn.reply.src, dport=conn.reply.sport)
        before, after = (targets.endpoint_text(p.dst, p.dport) for p in (packet, moved))
        side = "dst"
    else:
        if not conn.snat:
            return branch
        moved = packet.replace(src=conn.reply.dst, sport=conn.reply.dport)
        before, after = str(packet.src), str(moved.src)
        side = "src"
    if moved == packet:
        return branch
    rewrites = flight.rewrites
    if moved.src != packet.src:
        because = "the entry of an earlier connection has it"
        rewrites = (*rewrites, Rewrite(netns.name, None, conn.entry.at, packet.src, moved.src, because))
    there = branch.fly(flight.with_(packet=moved, rewrites=rewrites))
    changes = ((side, f"{before} → {after}"),) if before != after else ()
    return there.step(
        Step(hook, "", "", None, conn.entry.at, "conntrack translates as its entry says", changes=changes)
    )


def untranslated(conn: Conn, dst: Addr, node: str) -> str:
    """Why a packet still has the destination ``dst`` behind the nat chains of ``node``."""
    if conn.entry is not None:
        return f"the conntrack entry at {conn.entry.at} does not translate {dst}, and rules are not asked"
    return f"no rule of {node} translates {dst}"


def _listed(flight: Flight, netns: Netns) -> ConntrackEntry | None:
    packet = flight.packet
    if packet.sport is None or packet.dport is None:
        return None
    ends = ConntrackTuple(packet.src, packet.dst, packet.sport, packet.dport)
    for table in netns.node.conntrack:
        for entry in table.connections.having(ends):
            # Zones are given by rules (CT --zone), which are not followed into conntrack.
            if entry.protocol == packet.protocol and entry.zone == 0:
                return entry
    return None


def _conn(entry: ConntrackEntry, packet: Packet, netns: Netns) -> Conn:
    """The entry as its packet sees it: new until an answer was seen, and bound on both sides since it was confirmed."""
    original, reply = (_tuple(entry.protocol, side) for side in (entry.original, entry.reply))
    answering = tuple_of(packet) != original
    state = ESTABLISHED if answering or "UNREPLIED" not in entry.flags else NEW
    return Conn(
        state, "REPLY" if answering else "ORIGINAL", original, reply, entry.mark or 0, True, True,
        ipvs.of_entry(entry, netns), entry,
    )  # fmt: skip


def _tuple(protocol: int, side: ConntrackTuple) -> Tuple:
    return Tuple(protocol, side.src, side.sport, side.dst, side.dport)


def _reopens(entry: ConntrackEntry, packet: Packet) -> bool:
    """A SYN for a connection that is closed: the entry is removed and the packet looked up again."""
    first = packet.protocol == TCP and "SYN" in packet.tcp_flags and "ACK" not in packet.tcp_flags
    return first and entry.state in _OVER and tuple_of(packet) == _tuple(entry.protocol, entry.original)
