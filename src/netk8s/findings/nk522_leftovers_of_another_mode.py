"""A node has what kube-proxy wrote in two modes: one of them is left over.

What it sees
------------
A node on the packet's way with more than one of: kube-proxy's Service rules of iptables mode
(chain KUBE-NODEPORTS), virtual servers or rules of IPVS mode, the table kube-proxy of nftables
mode.

Why it matters
--------------
kube-proxy keeps the rules of its own mode up to date. It removes those of the others when it
starts, but not if it cannot: another iptables backend in its image, a version that did not know
the other mode, a node that was switched by hand. What is left goes on translating. It may send
packets to endpoints that are long gone, and which of the two is asked first depends on hooks:
rules of iptables and nftables mode come before IPVS, and between those two the one that was
registered last comes first.

Example
-------
  NK522 warning  worker-1 has what kube-proxy writes in iptables mode and in nftables mode: one
                 is left over and may still decide
     worker-1/iptables-save.txt:40, worker-1/nft-ruleset.txt:12

What to do
----------
`kube-proxy --cleanup` with the image that ran before removes what it wrote; so does a reboot.
Do it in a maintenance window and let kube-proxy write its rules anew at once, for Services are
down in between. By hand: `nft delete table ip kube-proxy`, `ipvsadm -C`, or the KUBE- chains.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _recorded
from netk8s.findings._modes import modes
from netk8s.findings._reading import places
from netk8s.model import Finding, Trace, World

CODE = "NK522"
SEVERITY = "warning"
SUMMARY = "A node has the rules of two modes of kube-proxy."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for name in _recorded.nodes(trace):
        found = modes(world.nodes.get(name), trace.flow.packet.family)
        if len(found) > 1:
            yield Finding(
                CODE,
                SEVERITY,
                f"{name} has what kube-proxy writes in {' mode and in '.join(sorted(found))} mode: one is left over "
                "and may still decide",
                places(*found.values()),
                "Remove what kube-proxy does not keep up to date: kube-proxy --cleanup of the image that wrote it, or "
                "a reboot, in a maintenance window; Services are down until kube-proxy has written its rules.",
            )
