"""A connection that a node remembers goes on to an endpoint that the Service no longer has.

What it sees
------------
An entry of `conntrack -L` on a node of the packet's way for the address and port that were
dialled, translated to an address that no EndpointSlice of the Service has. Endpoints that are
not ready or are terminating still count as the Service's. Closed TCP connections are left out.

Why it matters
--------------
The rules are asked for the first packet of a connection only; the entry decides for all others.
A TCP client notices that its endpoint is gone and opens a new connection. A UDP client that
keeps its source port (a DNS resolver, SIP, syslog, game and telemetry clients) is sent to the
old address with every packet, and each packet keeps the entry alive: it never recovers by
itself. kube-proxy deletes such entries for UDP when an endpoint goes away, unless it was down or
conntrack failed at that moment, or another node or another program made the translation.

Example
-------
  NK420 warning  2 recorded UDP connections to 10.96.0.10:53 on worker-1 go on to 10.244.1.9,
                 no endpoint of kube-system/kube-dns
     worker-1/conntrack.txt:217, :240

What to do
----------
Delete the entries on that node (the command is in the answer); the next packet is then a first
one and asks the rules. For TCP nothing is to be done but to close connections that hang.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _recorded
from netk8s.findings._reading import dialled, endpoints, places, service_port
from netk8s.model import Addr, ConntrackEntry, Finding, Trace, World

CODE = "NK420"
SEVERITY = "warning"
SUMMARY = "A recorded connection goes on to an address that is no endpoint of the Service."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    port = service_port(world, trace)
    if port is None or "endpoints" not in world.cluster.covered:
        return
    packet = trace.flow.packet
    # Untranslated entries are NK421's; on the way to another node's NodePort they are as they should be.
    known = {packet.dst, *(e.ip for e in endpoints(world, port, packet.family))}
    for node in _recorded.nodes(trace):
        gone: dict[Addr, list[ConntrackEntry]] = {}
        for entry in _recorded.elsewhere(world, trace, node, known):
            gone.setdefault(entry.reply.src, []).append(entry)
        for address, entries in gone.items():
            lasting = entries[0].protocol in _recorded.PACKETS
            severity = SEVERITY if lasting else "info"
            verb = "goes" if len(entries) == 1 else "go"
            yield Finding(
                CODE,
                "error" if _recorded.followed(trace, entries) else severity,
                f"{_recorded.connections(entries)} to {dialled(trace)} on {node} {verb} on to {address}, no endpoint of "
                f"{port.namespace}/{port.service}",
                places(*(entry.at for entry in entries)),
                f"On {node}: {_recorded.forget(entries[0])}. The next packet then asks the rules"
                + (
                    "; until then a client that keeps its source port is never sent anywhere else."
                    if lasting
                    else ", which refuse a TCP connection that is under way: it is opened anew either way."
                ),
            )
