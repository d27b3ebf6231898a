"""A node and the pods on its own macvlan or ipvlan devices do not reach each other.

What it sees
------------
A packet that a node sends, or sends on, to a pod that hangs by macvlan or ipvlan in mode l2 on the
device it would leave by; or one of such a pod to its own node.

Why it matters
--------------
The parent device and the devices on it are separate: what the node sends goes out to the network
and does not come back in. So NodePorts and ClusterIPs fail for the share of endpoints on the
node itself, externalTrafficPolicy: Local fails altogether, and kubelet's probes need another
way. From every other node the same pods are reached.

Example
-------
  NK414 error  worker-1 cannot reach 192.168.10.101: eth0 of worker-1 and the pods on it do not hear
               each other, so 50 % of the connections end there
     worker-1/ip-link.json

What to do
----------
Give the node a device of its own of the same kind on the same parent, with an address, and a
route to its pods by it (`ip link add shim0 link eth0 type macvlan mode bridge`): both hear each
other then. Or give the pods a second device through the node.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from netk8s.findings._reading import PARENT, Stop, graded, grouped, places, proven, stops, why
from netk8s.model import At, Finding, Trace, World

CODE = "NK414"
SEVERITY = "error"
SUMMARY = "A node and the pods on its own macvlan or ipvlan devices do not reach each other."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for group in grouped(s for s in stops(trace) if s.kind == PARENT):
        share = sum((s.way.odds for s in group), Fraction(0))
        stop = group[0]
        ends = f"{float(share):.0%} of the connections" if share < 1 else "the answer" if stop.back else "the packet"
        yield Finding(
            CODE,
            graded(SEVERITY, (s.way for s in group)),
            f"{why(group)}, so {ends} end{'s' if share >= 1 else ''} there",
            places(*(_device(world, s) for s in group)),
            "Give the node a device of the same kind on the same parent with a route to its pods by it, or give the pods "
            "a second device through the node.",
            proven(s.way for s in group),
        )


def _device(world: World, stop: Stop) -> At | None:
    node = world.nodes.get(stop.node)
    return next((link.at for link in node.links if f": {link.name} of " in stop.why), None) if node else None
