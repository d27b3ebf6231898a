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

from netk8s.findings import _verdicts
from netk8s.findings._reading import Stop, address, places, proven, short, stops, target
from netk8s.model import Finding, Trace, World

CODE = "NK402"
SEVERITY = "error"
SUMMARY = "A rule or a policy drops or rejects the packet or its answer."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    del world
    for stop in stops(trace):
        step = stop.step
        if _verdicts.kind(stop) != _verdicts.OTHER or step is None:
            continue
        verb = "rejects" if target(step.detail) == "REJECT" else "drops"
        what = f"{stop.what} {_where(trace, stop)}"
        if step.rule is None:
            summary = f"the policy of {step.table} {step.chain} on {stop.node} drops {what}: no rule accepts it"
            remedy = (
                f"Accept the pod network in {step.chain} before the end of the chain (the CNI plugin's job), or set "
                "the policy to ACCEPT, which opens forwarding for everything else too."
            )
        else:
            summary = f"{stop.node} {verb} {what} in {step.table} {step.chain}: {short(step.rule)}"
            remedy = _remedy(stop)
        yield Finding(CODE, SEVERITY, summary, places(step), remedy, proven([stop.way]))


def _where(trace: Trace, stop: Stop) -> str:
    if stop.back:
        return f"to {trace.flow.packet.src}"
    return f"from {trace.flow.packet.src} to {address(stop.way.packet.dst, stop.way.packet.dport)}"


def _remedy(stop: Stop) -> str:
    chain = stop.step.chain if stop.step is not None else ""
    if chain.startswith(("cali-", "KUBE-NWPLCY", "KUBE-POD-FW", "WEAVE-NPC", "CILIUM_")):
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
