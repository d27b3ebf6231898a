"""Which state conntrack gives a packet that belongs to no entry yet.

Sources: Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_valid_flags, tcp_conntracks, tcp_new),
nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c (valid_new, noct_valid_new).
"""

from __future__ import annotations

from netk8s.model import ICMP, ICMPV6, TCP, Packet

NEW, INVALID, UNTRACKED = "NEW", "INVALID", "UNTRACKED"

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
