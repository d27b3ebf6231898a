"""Pods of one bridge cannot reach each other through a Service: bridged frames pass no rules.

What it sees
------------
A pod's packet translated to a pod on the same bridge, and an answer that goes straight over the
bridge to the first pod, on a node where net.bridge.bridge-nf-call-iptables is 0 or br_netfilter
is not loaded. The node that translated the packet never sees the answer.

Why it matters
--------------
The pod asked the ClusterIP and is answered by the other pod's address; it resets that.
Connections fail for exactly those endpoints that are on the sender's own node, and work for all
others: a share of failures that moves with the scheduler.

Example
-------
  NK407 error  the answer of 10.244.1.6:80 to pod default/shop-1 crosses cni0 of worker-1 past
               its rules, because bridge-nf-call-iptables is 0
     worker-1/sysctl.txt:30

What to do
----------
Load br_netfilter and set net.bridge.bridge-nf-call-iptables=1 (and -ip6tables), in
/etc/modules-load.d and /etc/sysctl.d. From then on hairpin needs hairpin mode on the pods'
ports (NK406), and every frame between pods of a node costs a walk through the rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings._reading import ends, graded, live, places, proven, sender, sysctl
from netk8s.model import Finding, Trace, Way, World

CODE = "NK407"
SEVERITY = "error"
SUMMARY = "Answers between pods of one bridge pass no rules: bridge-nf-call-iptables is off."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    family = trace.flow.packet.family
    setting = f"net.bridge.bridge-nf-call-{'iptables' if family == 4 else 'ip6tables'}"
    found: dict[tuple[str, str], list[Way]] = {}
    for way in live(trace):
        crossed = _crossed(way)
        if way.reply and crossed is not None:
            found.setdefault(crossed, []).append(way)
    for (node, dev), ways in found.items():
        at = sysctl(world, node, setting)
        how = f"{setting.rpartition('.')[2]} is 0" if at is not None else "br_netfilter is not loaded there"
        yield Finding(
            CODE,
            graded(SEVERITY, ways),
            f"the answer of {ends(ways)} to {sender(trace)} crosses {dev} of {node} past its rules, because {how}",
            places(
                at, *(s for w in ways for h in w.hops for s in h.steps if any(name == "dst" for name, _ in s.changes))
            ),
            f"Load br_netfilter and set {setting}=1 on {node}, for good in /etc/modules-load.d and /etc/sysctl.d. Pods "
            "that dial themselves through a Service then need hairpin mode on their bridge port.",
            proven(ways),
        )


def _crossed(way: Way) -> tuple[str, str] | None:
    """(node, bridge) where the answer crossed a bridge without passing a hook of the node."""
    for hop in way.reply_hops:
        for step in hop.steps:
            if step.hook == "bridge" and "passes no hook" in step.action:
                return hop.node, hop.oif or hop.iif or "the bridge"
    return None
