"""A node dials a virtual address in IPVS mode and sends from that very address.

What it sees
------------
A process of a node that dials an address which the node itself has on kube-ipvs0, where the
packet keeps this address as its source up to POSTROUTING, or to the endpoint.

Why it matters
--------------
In IPVS mode every node has every ClusterIP on kube-ipvs0, so to the node's kernel the address
is its own and the packet's source is chosen alike. Rules in OUTPUT, NetworkPolicies for host
traffic and packet captures see the ClusterIP as the sender. KUBE-POSTROUTING has to masquerade
it: without that the endpoint's node, which has the same address, keeps the answer for itself.

Example
-------
  NK523 info  worker-1 dials 10.96.0.10:53 from 10.96.0.10, its own address on kube-ipvs0,
              which is masqueraded before it leaves the node
     worker-1/ip-addr.json:14

What to do
----------
Nothing where it is masqueraded; match host traffic by other means than its source in OUTPUT.
Where it is not: --cluster-cidr must not include the Service range, and KUBE-POSTROUTING must be
there (NK401). iptables and nftables mode send from the node's own address.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._modes import DEVICE
from netk8s.findings._reading import dialled, live, places, proven, stops
from netk8s.findings._translation import translation
from netk8s.model import Finding, Trace, World

CODE = "NK523"
SEVERITY = "info"
SUMMARY = "A node sends from the virtual address that it dials."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    packet = trace.flow.packet
    node = world.nodes.get(trace.flow.node)
    if trace.flow.origin != "node" or packet.src != packet.dst or node is None:
        return
    own = next((a for a in node.addresses if a.dev == DEVICE and a.ip == packet.dst), None)
    # What is stopped before it leaves was not to be masqueraded yet.
    early = {id(stop.way) for stop in stops(trace) if not stop.back and len(stop.way.hops) == 1}
    ways = [way for way in live(trace) if translation(way) is not None and id(way) not in early]
    if own is None or not ways:
        return
    kept = [way for way in ways if not any(r.before == packet.src for r in way.rewrites)]
    # An endpoint on the node itself may see the address as it is: the answer stays on the node.
    lost = [
        way
        for way in kept
        if way.verdict not in ("delivered", "unknown") or (way.reached is not None and way.reached.node != node.name)
    ]
    after = "and nothing masquerades it" if lost else "which is masqueraded before it leaves the node"
    yield Finding(
        CODE,
        "warning" if lost else SEVERITY,
        f"{node.name} dials {dialled(trace)} from {packet.src}, its own address on {DEVICE}, {after}",
        places(own.at),
        "Nothing is to be done where it is masqueraded: rules in OUTPUT see this source. Where it is not, see that "
        "--cluster-cidr leaves the Service range out and that KUBE-POSTROUTING is there.",
        proven(lost or ways),
    )
