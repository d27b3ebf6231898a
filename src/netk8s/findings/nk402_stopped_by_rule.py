"""A rule or a chain's policy drops or rejects the packet, or its answer.

What it sees
------------
The rule that stopped a packet on its way there, or the answer on its way back, wherever it is:
raw, mangle, nat or filter, on any node, in a chain of a CNI plugin, a firewall or by hand; and
a policy DROP that nothing accepted the packet before. kube-proxy's own rules for Services
without endpoints have findings of their own.

Why it matters
--------------
A drop is silent, and which rule did it is what an admin needs to know. A REJECT answers in the
name of the node, which looks as if the endpoint refused. The FORWARD policy is a common case:
kube-proxy accepts forwarded packets that are marked or belong to known connections, and leaves
all others to the CNI plugin's rules.

Example
-------
  NK402 error  worker-2 drops the packet in raw PREROUTING: -A PREROUTING -p tcp -m multiport
               --dports 30080 -j DROP
     worker-2.iptables-save:6

What to do
----------
If the rule should not stop this packet, put an exception before it or take it away, at the
place that wrote it: rules of a tool come back. For a FORWARD policy of DROP, accept the pod
network in both directions (the CNI plugin's job) or set the policy to ACCEPT, which leaves
forwarding open for everything else too.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _translation, _verdicts
from netk8s.findings._reading import Stop, ends, graded, grouped, places, proven, short, stops, target
from netk8s.model import Finding, Trace, World

CODE = "NK402"
SEVERITY = "error"
SUMMARY = "A rule or a policy drops or rejects the packet or its answer."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    for group in grouped(s for s in stops(trace) if _verdicts.kind(s) == _verdicts.OTHER):
        stop, step = group[0], group[0].step
        if step is None or _translation.unserved(world, trace, stop):
            continue  # NK204 tells of an address that takes no NodePorts
        ways = [s.way for s in group]
        verb = "rejects" if target(step.detail) == "REJECT" or step.action.startswith("reject") else "drops"
        src = trace.flow.packet.src
        what = f"the answer to {src}" if stop.back else f"the packet from {src} to {ends(ways)}"
        if step.rule is None:
            policy = f"the policy of {step.table} {step.chain} on {stop.node}"
            summary = f"{policy} drops {what}: no rule accepts it"
            remedy = (
                f"Accept the pod network in {step.chain} before the end of the chain (the CNI plugin's job), or set "
                "the policy to ACCEPT, which opens forwarding for everything else too."
            )
        else:
            where = f"in {step.table} {step.chain}: {short(step.rule)}"
            summary = f"{stop.node} {verb} {what} {where}"
            if step.policed is not None and step.policed.policies:
                named = ", ".join(step.policed.policies)
                summary = f"{step.policed.component} on {stop.node} {verb} {what} for policy {named}, {where}"
            remedy = _remedy(stop)
        yield Finding(CODE, graded(SEVERITY, ways), summary, places(step), remedy, proven(ways))


def _remedy(stop: Stop) -> str:
    chain = stop.step.chain if stop.step is not None else ""
    if stop.step is not None and stop.step.policed is not None:
        return (
            "A NetworkPolicy does this: admit the sender there. What the rule sees is the address after any "
            "masquerade on the way."
        )
    if chain == "KUBE-FIREWALL":
        return "Addresses of 127.0.0.0/8 are not served from other hosts, by design; dial the node's own address."
    return (
        "If the rule should not stop this packet, put an exception before it or take it away, at the place that "
        "wrote it: what a tool wrote comes back."
    )
