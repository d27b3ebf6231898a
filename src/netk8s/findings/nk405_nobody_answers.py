"""The packet is sent on and nobody has the address it is sent to.

What it sees
------------
A next hop or an endpoint that does not answer on its link: its neighbour entry is FAILED or
INCOMPLETE, or neither a pod nor a node of complete lists has the address.

Why it matters
--------------
The sender gets "no route to host" after about three seconds, or nothing. The usual reason is an
endpoint that is gone while the rules still name it, so the odds say how many connections fail.

Example
-------
  NK405 error  nobody has 10.244.2.9 on cni0 of worker-2, where 33 % of the connections go
     worker-2/ip-neigh.json:7, worker-2.iptables-save:91

What to do
----------
If the address is no endpoint of the Service (NK206), kube-proxy on the node that translates is
not up to date. If it is one, the pod's device is down or its node is gone: see the pod and its
node. A next hop that does not answer is a node or router that is down, or a link between you
that filters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from netk8s.findings._reading import DEAD, SILENCE, Stop, graded, grouped, places, proven, stops, target, why
from netk8s.model import At, Finding, Neighbour, Step, Trace, Way, World

CODE = "NK405"
SEVERITY = "error"
SUMMARY = "Nobody answers for the address the packet is sent to."
SYMPTOM = True


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for group in grouped(s for s in stops(trace) if s.kind in (SILENCE, DEAD)):
        share = sum((s.way.odds for s in group), Fraction(0))
        of = "" if share >= 1 else f", where {float(share):.0%} of the connections go"
        yield Finding(
            CODE,
            graded(SEVERITY, (s.way for s in group)),
            f"{re.sub(_ENTRY, '', why(group))}{of}",
            places(*(_link(world, s) for s in group), *(_translation(s.way) for s in group)),
            _REMEDY[group[0].kind],
            proven(s.way for s in group),
        )


_REMEDY = {
    SILENCE: "See whether the pod or node with that address exists and is up; if it is no endpoint any more, kube-proxy "
    "on the node that translates is not up to date (NK206).",
    DEAD: "See why the device is down: ip link shows whether it is switched off (ip link set DEV up) or has no carrier, then "
    "the other end is down or gone: a cable, a switch port, the pod's own end of a veth pair. A pod that is made anew gets "
    "a new pair.",
}
_ENTRY = r" \(neighbour [A-Z]+, [^)]*\)"


def _link(world: World, stop: Stop) -> At | None:
    """The device that is down, the failed neighbour entry, else the route that leads there."""
    if stop.kind == DEAD:
        node = world.nodes.get(stop.node)
        named = re.findall(r"[\w.@-]+", stop.why)
        return (
            next((link.at for link in node.links if link.name in named and link.name != "lo"), None) if node else None
        )
    entry = _neighbour(world, stop)
    return entry.at if entry is not None else _routed(stop)


def _neighbour(world: World, stop: Stop) -> Neighbour | None:
    """The entry that the reason names: it is the failed one for the last device and the next hop."""
    node = world.nodes.get(stop.node)
    for entry in node.neighbours if node is not None else ():
        if f"for {entry.ip} on {entry.dev} of" in stop.why:
            return entry
    return None


def _routed(stop: Stop) -> At | None:
    hops = stop.way.reply_hops if stop.back else stop.way.hops
    return next((s.at for s in reversed(hops[-1].steps) if s.hook == "routing"), None) if hops else None


def _translation(way: Way) -> Step | None:
    return next((s for h in way.hops for s in h.steps if target(s.detail) == "DNAT"), None)
