"""A node's routing, or a pod's own kernel, discards the packet or its answer.

What it sees
------------
No route to the destination, or a blackhole, unreachable or prohibit one; forwarding switched
off; martian addresses; packets that go in a circle between nodes; a pod's packet back from its
own address. On the way there and on the way back. Reverse path filtering is NK411.

Why it matters
--------------
None of this is in any rule. The packet leaves the rules untouched and is gone, mostly without a
word; counters of iptables look right.

Example
-------
  NK404 error  worker-2 does not forward packets (net.ipv4.conf.eth0.forwarding = 0), so the
               packet to 10.244.2.5:80 ends there
     worker-2/sysctl.txt:12

What to do
----------
A missing route to another node's pods is the CNI plugin's to restore (its daemon on that node).
Forwarding is switched on with `sysctl -w net.ipv4.ip_forward=1` and in /etc/sysctl.d; whatever
switches it off at boot or by a tool will do so again. A martian source is mostly an address
that should have been masqueraded (NK401).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from netk8s.findings._reading import (
    OTHER,
    POD,
    ROUTE,
    Stop,
    ends,
    graded,
    grouped,
    places,
    proven,
    route_dump,
    stops,
    sysctl,
    why,
)
from netk8s.model import At, Finding, Trace, World

CODE = "NK404"
SEVERITY = "error"
SUMMARY = "Routing discards the packet or its answer."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    # What is neither routing nor anything else known is told here rather than not at all.
    mine = [s for s in stops(trace) if s.kind in (ROUTE, POD) or (s.kind == OTHER and not s.back)]
    for group in grouped(s for s in mine if "route_localnet" not in s.why):  # NK408
        stop = group[0]
        reason = why(group).removeprefix(f"{stop.node}: ")
        who = "" if stop.node in reason or stop.kind == POD else f"{stop.node}: "
        what = f"the answer to {trace.flow.packet.src}" if stop.back else f"the packet to {ends(s.way for s in group)}"
        yield Finding(
            CODE,
            graded(SEVERITY, (s.way for s in group)),
            f"{who}{reason}, so {what} ends there{_switched_off(world, stop)}",
            places(*(at for s in group for at in _evidence(world, trace, s))),
            _remedy(stop),
            proven(s.way for s in group),
        )


def _switched_off(world: World, stop: Stop) -> str:
    """The devices that a node without a route has switched off: their routes went with them."""
    node = world.nodes.get(stop.node)
    if node is None or " no route" not in stop.why:
        return ""
    addressed = {a.dev for a in node.addresses if a.scope == "global"}
    off = [link.name for link in node.links if not link.up and link.name in addressed and link.kind != "dummy"]
    return f" ({', '.join(off)} of {stop.node} is switched off, and its routes with it)" if off else ""


_SETTING = re.compile(r"\b(net\.[\w.-]+) = 0")


def _evidence(world: World, trace: Trace, stop: Stop) -> Iterator[At | None]:
    if stop.step is not None and stop.step.rule is None and stop.step.at is not None:
        yield stop.step.at
    if stop.kind == POD:
        yield from (s.at for h in stop.way.hops for s in h.steps if any(name == "dst" for name, _ in s.changes))
    found = _SETTING.search(stop.why)
    if found is not None:
        yield sysctl(world, stop.node, found[1], "net.ipv4.ip_forward")
    if " route" in stop.why or "gateway" in stop.why:
        yield route_dump(world, stop.node, trace.flow.packet.family)


def _remedy(stop: Stop) -> str:
    reason = stop.why
    if "does not forward" in reason:
        return (
            f"Switch forwarding on at {stop.node} (sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d), and find "
            "what switched it off: some hardening tools do so again at each run."
        )
    if "martian" in reason or stop.kind == POD:
        return "The packet should have had another source: see whether a masquerade is missing on the way (NK401)."
    if "circle" in reason:
        return (
            "Two nodes take each other for the way to this address: correct the route on the one that does not have it."
        )
    return (
        f"Restore the route on {stop.node}: routes to pods are the CNI plugin's, so see its daemon there; a static "
        "route has to be kept in step with the nodes' pod networks by hand."
    )
