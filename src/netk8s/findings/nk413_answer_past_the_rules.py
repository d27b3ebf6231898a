"""The answer goes straight to an ipvlan l3 pod, past the rules that translated the question.

What it sees
------------
A pod on ipvlan in mode l3 that dials a Service. What it sends passes OUTPUT and POSTROUTING of its
node and is translated there; what comes back is handed to the pod by the device before
conntrack of the node sees it, with the endpoint's own address as its source.

Why it matters
--------------
The pod asked the Service and is answered by a stranger, so it resets the connection and waits on.
Only where the packet was masqueraded does the answer come to the node itself and is undone.

Example
-------
  NK413 error  the answer to 10.244.1.7 comes from 10.244.2.5:80, but 10.96.0.10:80 was asked:
               eth0 of worker-1 hands it to the pod past the rules that translated the question
     worker-1/iptables-save:97

What to do
----------
Mode l3s passes the node's INPUT on the way to the pod, and answers are translated there. Or
masquerade what these pods send to Services on their own node, which costs the source address.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import DIRECT, Stop, address, graded, grouped, places, proven, stops
from netk8s.model import At, Finding, Step, Trace, World

CODE = "NK413"
SEVERITY = "error"
SUMMARY = "The answer goes to an ipvlan l3 pod past the rules that translated the question."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    del world
    asked = trace.flow.packet
    for group in grouped(s for s in stops(trace) if s.kind == DIRECT):
        stop = group[0]
        got = address(stop.way.packet.dst, stop.way.packet.dport)
        many = f" and {len(group) - 1} more" if len(group) > 1 else ""
        yield Finding(
            CODE,
            graded(SEVERITY, (s.way for s in group)),
            f"the answer to {asked.src} comes from {got}{many}, but {address(asked.dst, asked.dport)} was asked: "
            f"{stop.way.reply_hops[-1].iif} of {stop.node} hands it to the pod past the rules that translated the question",
            places(*(place for s in group for place in _evidence(s))),
            "Use ipvlan mode l3s, which passes INPUT of the node on the way back, or masquerade what these pods send to "
            "Services, which costs the source address.",
            proven(s.way for s in group),
        )


def _evidence(stop: Stop) -> Iterator[At | Step | None]:
    for hop in stop.way.hops:
        yield from (s for s in hop.steps if any(name == "dst" for name, _ in s.changes))
