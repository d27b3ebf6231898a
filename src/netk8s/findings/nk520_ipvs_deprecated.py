"""A node on the way runs kube-proxy in IPVS mode, which is deprecated.

What it sees
------------
A node that balanced the packet with IPVS.

Why it matters
--------------
kube-proxy warns at its start in IPVS mode from 1.35 on; 1.37 puts the mode behind the feature
gate KubeProxyIPVS, which is planned to be off by default in 1.40, and the mode is to be removed
(KEP-5495). It has no maintainers who know it, and its bugs are answered with a pointer to
nftables mode.

Example
-------
  NK520 info  worker-1 runs kube-proxy in IPVS mode, which is deprecated since 1.35
     worker-1/ipvsadm-save.txt:12

What to do
----------
Plan the move to nftables mode (1.33 or later, Linux 5.13 or later), or to iptables mode.
`netk8s compare` of a snapshot in each mode shows which flows change: traffic policies Local,
refusals, NodePorts' addresses, what nodes send from. The schedulers have no counterpart: both
other modes choose at random.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._modes import IPVS
from netk8s.findings._reading import live, named, places
from netk8s.findings._translation import translation
from netk8s.model import Finding, Step, Trace, World

CODE = "NK520"
SEVERITY = "info"
SUMMARY = "kube-proxy's IPVS mode is deprecated."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    del world
    found: dict[str, Step] = {}
    for way in live(trace):
        done = translation(way)
        if done is not None and done.mode == IPVS:
            found.setdefault(done.node, done.step)
    if found:
        yield Finding(
            CODE,
            SEVERITY,
            f"{named(found, 'nodes')} {'runs' if len(found) == 1 else 'run'} kube-proxy in IPVS mode, which is "
            "deprecated since 1.35",
            places(*found.values()),
            "Plan the move to nftables mode (1.33 and Linux 5.13 or later) or to iptables mode; netk8s compare of a "
            "snapshot in each mode shows which flows change.",
        )
