"""A UDP connection that a node remembers is not translated, though the rules would translate it now.

What it sees
------------
An entry of `conntrack -L` for UDP (or SCTP) to the address and port that were dialled whose
answers would come from that very address, on a node whose rules translate the packet that was
asked for.

Why it matters
--------------
The entry was made before the rules were there: the client sent before kube-proxy had written
the Service, while the Service had no endpoint, or while the chains were flushed. Rules are
asked for the first packet of a connection only. As long as the client sends from the same
port, its packets keep the entry alive and leave the node untranslated, to an address that
nobody has. It is seen with DNS and log shippers after a node's boot.

Example
-------
  NK421 warning  a recorded UDP connection to 10.96.0.10:53 on worker-1 is not translated,
                 though the rules of worker-1 translate a new one
     worker-1/conntrack.txt:88

What to do
----------
Delete the entries on that node (the command is in the answer), or let the client open a new
socket. kube-proxy deletes them when a UDP Service gets its first endpoint, if it sees that
happen.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _recorded
from netk8s.findings._reading import dialled, live, places
from netk8s.findings._translation import translation
from netk8s.model import Finding, Trace, World

CODE = "NK421"
SEVERITY = "warning"
SUMMARY = "A recorded UDP connection passes the Service by, untranslated."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    packet = trace.flow.packet
    if packet.protocol not in _recorded.PACKETS:
        return
    ways = [(way, translation(way)) for way in live(trace)]
    for node in _recorded.nodes(trace):
        ends = {way.packet.dst for way, found in ways if found is not None and found.node == node}
        entries = [
            entry
            for entry in _recorded.elsewhere(world, trace, node, ends)
            if entry.reply.src == packet.dst and entry.reply.sport == packet.dport
        ]
        if ends and packet.dst not in ends and entries:
            verb = "is" if len(entries) == 1 else "are"
            yield Finding(
                CODE,
                SEVERITY,
                f"{_recorded.connections(entries)} to {dialled(trace)} on {node} {verb} not translated, though the "
                f"rules of {node} translate a new one",
                places(*(entry.at for entry in entries)),
                f"On {node}: {_recorded.forget(entries[0])}. The next packet then asks the rules; until then a client "
                "that keeps its source port is not served.",
            )
