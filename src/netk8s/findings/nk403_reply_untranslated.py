"""The packet arrives, and its answer does not come back translated.

What it sees
------------
A packet that reaches its endpoint and whose answer goes back by a way on which nobody undoes
the translation, or that comes from another address than the one that was asked. Translation is
undone only by the node, and the network namespace, whose conntrack did it.

Why it matters
--------------
The client asked one address and is answered by another; it resets or ignores that. The
connection times out although every rule on the way there is right, and the endpoint even sees
the packet.

Example
-------
  NK403 error  the answer to 203.0.113.7 does not come back as it should: the answer bypasses
               the node that translated the packet and comes from 10.244.2.5:80, but
               10.0.0.11:30000 was asked
     worker-1.iptables-save:97

What to do
----------
Either make the answer pass the node again, or make it unnecessary. Masquerade on the
translating node sends the answer back to it and costs the source address; NK401 says if it
should have happened. Endpoints of the node that is addressed only (externalTrafficPolicy:
Local) keep the address. Two pods of one bridge need bridge-nf-call-iptables=1 (NK407).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import OTHER, TRANSLATION, Stop, graded, grouped, places, proven, stops, why
from netk8s.model import Finding, Step, Trace, World

CODE = "NK403"
SEVERITY = "error"
SUMMARY = "The answer bypasses the node that translated the packet."
SYMPTOM = True


def check(world: World, trace: Trace) -> Iterator[Finding]:
    del world
    for group in grouped(s for s in stops(trace) if s.back and s.kind in (TRANSLATION, OTHER)):
        yield Finding(
            CODE,
            graded(SEVERITY, (stop.way for stop in group)),
            f"the answer to {trace.flow.packet.src} does not come back as it should: {why(group)}",
            places(*(step for stop in group for step in _translations(stop))),
            "Make the answer pass the translating node again: masquerade there sends it back and costs the source "
            "address; endpoints of the addressed node only (externalTrafficPolicy: Local) keep it; a client inside the "
            "pod network should dial the ClusterIP from a pod.",
            proven(stop.way for stop in group),
        )


def _translations(stop: Stop) -> Iterator[Step]:
    for hop in stop.way.hops:
        yield from (s for s in hop.steps if any(name == "dst" for name, _ in s.changes))
    for hop in stop.way.reply_hops:
        yield from hop.steps[-1:]
