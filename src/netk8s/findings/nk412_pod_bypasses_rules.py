"""A pod dials a Service, and no rule sees what it sends.

What it sees
------------
A pod on macvlan, or on ipvlan in mode l2, that dials a ClusterIP. Its frames leave by the node's
device before any hook of the node, so kube-proxy's rules never translate the address, and the
network has no way to it.

Why it matters
--------------
Nothing is wrong with the Service: every other client reaches it, and the rules, their counters and
their connections show no trace of this pod. Cluster DNS is a ClusterIP too, so such pods often
cannot even look up names.

Example
-------
  NK412 error  pods on eth0 of worker-1 pass no rule, so nothing translates 10.96.0.10: what pod
               default/app sends there goes to gateway 192.168.10.1 and is lost
     worker-1/ip-link.json

What to do
----------
Give the pod a second device that leads through the node (a bridge or ptp network by a meta plugin)
and a route to the Service range by it; ipvlan in mode l3s translates both ways where its other
limits are acceptable. Or dial the pods themselves (a headless Service), which needs no rule, or
have the network route the Service range to a node, which then is a single way for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import BYPASS, graded, grouped, places, proven, sender, stops, why
from netk8s.model import At, Finding, Trace, World

CODE = "NK412"
SEVERITY = "error"
SUMMARY = "A pod dials a Service, and no rule sees what it sends."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for group in grouped(s for s in stops(trace) if s.kind == BYPASS):
        stop = group[0]
        rules, _, fate = why(group).partition(", and it goes to ")
        yield Finding(
            CODE,
            graded(SEVERITY, (s.way for s in group)),
            f"{rules}: what {sender(trace)} sends there goes to {fate}",
            places(_parent(world, stop.node, stop.why)),
            "Give the pod a second device through the node with a route to the Service range, or dial the pods "
            "themselves (headless Service); a route to the Service range on the network's gateway makes one node the "
            "way for all of it.",
            proven(s.way for s in group),
        )


def _parent(world: World, node: str, reason: str) -> At | None:
    found = world.nodes.get(node)
    return next((link.at for link in found.links if f" on {link.name} of " in reason), None) if found else None
