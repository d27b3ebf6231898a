"""A tunnel on the way takes larger packets than fit through it.

What it sees
------------
A tunnel device (vxlan, geneve) on the way there or back whose MTU is larger than that of the device
below less what the tunnel puts around each packet. (ipip, sit and gre tell the sender; NK415 says
where it does not hear.)

Why it matters
--------------
The MTU of the tunnel device is what the sender is told, so nobody hears that a packet is too
large: path MTU discovery stays silent. The node cuts the wrapped packet into fragments, which
costs speed, and where the network or a firewall drops fragments, or the tunnel forbids them,
the packet is gone. Connections open and small answers come, large ones hang.

Example
-------
  NK410 warning  flannel.1 of worker-1 takes packets of 1500 bytes, but only 1450 fit through
                 eth0 (MTU 1500, 50 bytes around each packet)
     worker-1/ip-link.json

What to do
----------
Set the MTU that fits in the CNI plugin's configuration, so that pods get it too, or raise that of
the network below on every node and switch. Clamping the MSS (iptables -j TCPMSS
--clamp-mss-to-pmtu) helps TCP only.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import live, places
from netk8s.model import Finding, Hop, Link, Trace, Way, World

CODE = "NK410"
SEVERITY = "warning"
SUMMARY = "A tunnel on the way takes larger packets than fit through it."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    told: dict[tuple[str, str], list[Way]] = {}
    for way in live(trace):
        for hop in (*way.hops, *way.reply_hops):
            link = _device(world, hop)
            if link is None or link.mtu is None or hop.wraps is None or hop.wraps.told:
                continue
            if min(link.mtu, hop.route_mtu or link.mtu) <= hop.wraps.mtu:
                continue
            key = (hop.node, link.name)
            if key in told:
                told[key].append(way)
                continue
            told[key] = [way]
            fit = hop.wraps
            below = next((each for each in world.nodes[hop.node].links if each.name == fit.underlay), None)
            yield Finding(
                CODE,
                SEVERITY,
                f"{link.name} of {hop.node} takes packets of {link.mtu} bytes, but only {fit.mtu} fit through "
                f"{fit.underlay} (MTU {fit.underlay_mtu}, {fit.overhead} bytes around each packet)",
                places(link.at, below.at if below is not None else None),
                f"Set the MTU of {link.name} and of the pods to {fit.mtu} in the CNI plugin's configuration, or raise "
                f"that of {fit.underlay} on every node and the network between them.",
                True,
            )


def _device(world: World, hop: Hop) -> Link | None:
    node = world.nodes.get(hop.node)
    return next((link for link in node.links if link.name == hop.oif), None) if node is not None else None
