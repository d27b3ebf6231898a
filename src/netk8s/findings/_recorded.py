"""Connections that nodes on the way remember for what was dialled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from netk8s.findings._reading import live
from netk8s.model import PROTOCOL_NAMES, SCTP, TCP, UDP, Addr, ConntrackEntry, Trace, World

MOST_ENTRIES = 1000
"""Connections of one node that are counted; more of them tell no more."""
OVER = frozenset({"TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "FIN_WAIT"})
"""States of TCP in which no new packet of the client is to be expected."""
PACKETS = frozenset({UDP, SCTP})
"""Protocols whose sender may go on from one port for ever and is told by nothing that its endpoint is gone."""


def nodes(trace: Trace) -> list[str]:
    """The nodes on the way, in order."""
    return list(dict.fromkeys(hop.node for way in live(trace) for hop in way.hops))


def elsewhere(world: World, trace: Trace, node: str, known: Iterable[Addr]) -> Iterator[ConntrackEntry]:
    """The node's connections to what was dialled whose answers come from none of the ``known`` addresses."""
    packet = trace.flow.packet
    found = world.nodes.get(node)
    if found is None or packet.dport is None:
        return
    known = tuple(known)
    for table in found.conntrack:
        for entry in islice(table.connections.elsewhere(packet.dst, packet.dport, known), MOST_ENTRIES):
            if entry.protocol == packet.protocol and not (entry.protocol == TCP and entry.state in OVER):
                yield entry


def forget(entry: ConntrackEntry) -> str:
    """The command of conntrack(8) that deletes such entries."""
    family = " -f ipv6" if entry.original.dst.version == 6 else ""
    return (
        f"conntrack -D{family} -p {PROTOCOL_NAMES.get(entry.protocol, entry.protocol)} --orig-dst {entry.original.dst} "
        f"--orig-port-dst {entry.original.dport} --reply-src {entry.reply.src}"
    )


def connections(entries: list[ConntrackEntry]) -> str:
    """How many connections of which protocol, in words."""
    name = PROTOCOL_NAMES.get(entries[0].protocol, str(entries[0].protocol)).upper()
    return f"a recorded {name} connection" if len(entries) == 1 else f"{len(entries)} recorded {name} connections"


def followed(trace: Trace, entries: list[ConntrackEntry]) -> bool:
    """Whether the packet that was asked for is one of these connections' and does not arrive."""
    places = {entry.at for entry in entries}
    failed = [way for way in live(trace) if way.verdict not in ("delivered", "unknown")]
    return any(step.rule is None and step.at in places for way in failed for hop in way.hops for step in hop.steps)
