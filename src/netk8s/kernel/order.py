"""Which of two orders of nat chains a node's own connections show.

Chains of one priority are asked in the reverse order of their registration (net/netfilter/core.c
nf_hook_entries_grow, Linux 4.14), which no dump of rules tells. A connection that was translated as only one of the
orders would have it tells, for the moment it was opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from netk8s.kernel.flight import Branch, Conn, Flight, tuple_of
from netk8s.kernel.iptables import Verdict
from netk8s.kernel.netns import Netns
from netk8s.model import ConntrackEntry, Packet

MOST_CONNECTIONS = 64
"""More translated destinations than this are not looked at: one that differs shows the order, and few differ."""

MOST_READ = 20_000
"""A busy node tracks hundreds of thousands of connections; the first ones are a fair sample."""

Run = Callable[[Branch], Iterator[Verdict]]
"""What becomes of a first packet at the nat chains, in one order of them."""


def shown(netns: Netns, hook: str, family: int, likely: Run, other: Run) -> tuple[bool, ConntrackEntry] | None:
    """Whether connections show the likelier order (True) or the other one, with an entry that does.

    None when no entry tells them apart, or some tell one and some the other: the order was another one once, or the
    rules were.
    """
    found: dict[bool, ConntrackEntry] = {}
    for entry in _translated(netns, hook, family):
        is_likely, is_other = _would(entry, hook, likely), _would(entry, hook, other)
        if is_likely != is_other:
            found.setdefault(is_likely, entry)
    return next(iter(found.items())) if len(found) == 1 else None


def _translated(netns: Netns, hook: str, family: int) -> Iterator[ConntrackEntry]:
    """One entry for each destination and what it was translated to, of connections that came by ``hook``.

    Those that are being opened come first: their rules are of now.
    """
    seen = set()
    listed = (entry for table in netns.node.conntrack for entry in table.connections)
    for entry in sorted(islice(listed, MOST_READ), key=lambda e: "UNREPLIED" not in e.flags):
        there, back = entry.original, entry.reply
        ends = (entry.protocol, there.dst, there.dport, back.src, back.sport)
        if there.dst.version != family or (there.dst, there.dport) == (back.src, back.sport) or ends in seen:
            continue
        if (hook == "output") != bool(netns.is_local(there.src)):
            continue
        seen.add(ends)
        yield entry
        if len(seen) >= MOST_CONNECTIONS:
            return


def _would(entry: ConntrackEntry, hook: str, run: Run) -> bool:
    """Whether the chains in this order may translate the connection as it was translated."""
    there = entry.original
    packet = Packet(entry.protocol, there.src, there.dst, there.sport, there.dport)
    conn = Conn("NEW", "ORIGINAL", tuple_of(packet), tuple_of(packet).reversed())
    flight = Flight(packet, conn, iif_known=hook == "output", oif_known=hook != "output", local=hook == "output")
    return any(
        (verdict.branch.flight.packet.dst, verdict.branch.flight.packet.dport) == (entry.reply.src, entry.reply.sport)
        for verdict in run(Branch(flight))
    )
