"""A connection that a node remembers goes through a Service that is gone.

What it sees
------------
An entry of `conntrack -L` for the address and port that were dialled that is translated to
somewhere else, where no Service has that address and port any more and no rule of the node
translates it. Closed TCP connections are left out.

Why it matters
--------------
Old clients still reach the endpoint that their entry names while new ones fail, so that the
same address works for some and not for others. The address may by now belong to another
Service or machine, which old clients then never reach. A UDP client that keeps its source port
keeps the entry alive for as long as it sends.

Example
-------
  NK422 warning  a recorded UDP connection to 10.0.0.12:30053 on worker-1 still goes to
                 10.244.1.9, though no Service has that address and port
     worker-1/conntrack.txt:31

What to do
----------
Delete the entries on that node (the command is in the answer) if those clients should notice.
kube-proxy does so for UDP when a Service is deleted, unless it was down at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s import objects
from netk8s.findings import _recorded
from netk8s.findings._reading import dialled, live, places, service_port, steps
from netk8s.model import Addr, ConntrackEntry, Finding, Trace, World

CODE = "NK422"
SEVERITY = "warning"
SUMMARY = "A recorded connection goes through a Service that is gone."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    if "services" not in world.cluster.covered or service_port(world, trace) is not None or _served(world, trace):
        return
    packet = trace.flow.packet
    for node in _recorded.nodes(trace):
        if node in _translating(trace):
            continue
        found: dict[Addr, list[ConntrackEntry]] = {}
        for entry in _recorded.elsewhere(world, trace, node, [packet.dst]):
            found.setdefault(entry.reply.src, []).append(entry)
        for address, entries in found.items():
            verb = "goes" if len(entries) == 1 else "go"
            yield Finding(
                CODE,
                SEVERITY if packet.protocol in _recorded.PACKETS else "info",
                f"{_recorded.connections(entries)} to {dialled(trace)} on {node} still {verb} to {address}, though no "
                "Service has that address and port",
                places(*(entry.at for entry in entries)),
                f"On {node}, if those clients should notice: {_recorded.forget(entries[0])}.",
            )


def _served(world: World, trace: Trace) -> bool:
    """Whether some Service has the port as its NodePort, or the address with it: the flow was asked by address."""
    packet = trace.flow.packet
    known = objects.of(world.cluster)
    at_address = (s for s in known.services_at(packet.dst) if s.port == packet.dport)
    return any(s.protocol == packet.protocol for s in (*known.with_node_port(packet.dport), *at_address))


def _translating(trace: Trace) -> set[str]:
    """The nodes whose rules translate the destination; what an entry translates is no rule's work."""
    return {
        hop.node
        for way in live(trace)
        for hop, step in steps(way)
        if not step.action.startswith("conntrack") and any(name == "dst" for name, _ in step.changes)
    }
