"""A pod reaches itself through its Service, and the bridge does not send the packet back to it.

What it sees
------------
A packet from a pod that is translated to that same pod while bridge netfilter keeps it on the
bridge, where the pod's port has hairpin mode off: a bridge never sends a frame back by the port
it came in by unless that mode is on.

Why it matters
--------------
A pod that dials its own Service fails for the share of connections that come back to itself,
and only for those. With one endpoint that is all of them, with ten it looks like a flaky
network.

Example
-------
  NK406 error  cni0 of worker-1 does not send the packet of default/shop-1 back to it: hairpin
               mode is off
     worker-1.iptables-save:103, worker-1/ip-link.json:1

What to do
----------
Switch hairpin mode on for the pods' ports: `"hairpinMode": true` in the bridge plugin's
configuration (new pods only), or `bridge link set dev PORT hairpin on` by hand. Promiscuous
mode of the bridge ("promiscMode") does it too, and can bring every packet twice. With
bridge-nf-call-iptables=0 hairpin works by routing, but pods of one node then no longer reach
each other through a ClusterIP (NK407).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import HAIRPIN, graded, places, proven, sender, stops, target
from netk8s.model import Finding, Trace, World

CODE = "NK406"
SEVERITY = "error"
SUMMARY = "A pod cannot reach itself through its Service: hairpin mode is off."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for stop in stops(trace):
        if stop.kind != HAIRPIN:
            continue
        hop = (stop.way.reply_hops if stop.back else stop.way.hops)[-1]
        node = world.nodes.get(stop.node)
        ports = (
            [link.at for link in node.links if link.master == hop.iif and link.hairpin is False]
            if node is not None
            else []
        )
        bridge = hop.iif or "the bridge"
        yield Finding(
            CODE,
            graded(SEVERITY, [stop.way]),
            f"{bridge} of {stop.node} does not send {stop.what} of {sender(trace)} back by the port it came in by: "
            "hairpin mode is off",
            places(*(s for s in hop.steps if target(s.detail) == "DNAT"), *ports[:1]),
            "Set hairpinMode to true in the CNI bridge plugin's configuration (for pods made from then on), or "
            "bridge link set dev PORT hairpin on. Promiscuous mode of the bridge helps too and may bring packets "
            "twice.",
            proven([stop.way]),
        )
