"""A sender is not told that its packets are too large for the way.

What it sees
------------
A node on the way there or back whose next device takes smaller packets than the two ends may send
each other, and that cannot tell the sender so: a rule, a route or a missing one stops the ICMP
error ("fragmentation needed", in IPv6 "packet too big") on its own way back, or no dump shows it.

Why it matters
--------------
Path MTU discovery hangs on that error. Without it the sender repeats the large packet for ever:
connections open and small answers come, large ones hang.

Example
-------
  NK415 warning  packets of 10.244.1.6 may have 1500 bytes, but flannel.1 of worker-1 takes 1450,
                 and 10.244.1.6 is not told: worker-1: dropped by the rule at
                 worker-1/iptables-save:60
     worker-1/ip-link.json

What to do
----------
Let the ICMP error through (conntrack calls it RELATED), or set the MTU of the pods to the smallest
of the way, so that no packet is too large. Clamping the MSS (iptables -j TCPMSS
--clamp-mss-to-pmtu) or net.ipv4.tcp_mtu_probing=1 on the senders helps TCP only.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import live, places
from netk8s.model import Finding, Trace, World

CODE = "NK415"
SEVERITY = "warning"
SUMMARY = "A sender is not told that its packets are too large for the way."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    told: set[tuple[str, str | None, object]] = set()
    for way in live(trace):
        for hop in (*way.hops, *way.reply_hops):
            found = hop.too_large
            if found is None or found.untold == "" or (hop.node, hop.oif, found.sender) in told:
                continue
            told.add((hop.node, hop.oif, found.sender))
            node = world.nodes.get(hop.node)
            link = next((each for each in node.links if each.name == hop.oif), None) if node is not None else None
            by = f"the route by {hop.oif}" if hop.route_mtu == found.mtu else hop.oif
            heard = (
                f"{found.sender} is not told: {found.untold}"
                if found.untold
                else f"whether {found.sender} is told is not known"
            )
            yield Finding(
                CODE,
                SEVERITY,
                f"packets of {found.sender} may have {found.size} bytes, but {by} of {hop.node} takes {found.mtu}, "
                f"and {heard}",
                places(link.at if link is not None else None),
                f"Let ICMP errors from {hop.node} to {found.sender} through, or set the MTU of the senders to {found.mtu}; "
                "clamping the MSS (-j TCPMSS --clamp-mss-to-pmtu) helps TCP only.",
                bool(found.untold) and not way.assumptions,
            )
