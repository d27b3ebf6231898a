"""NetworkPolicies admit the connection, and a plugin's rules for them drop it.

What it sees
------------
A packet that the rules of a network policy plugin stopped, where the API's NetworkPolicies,
evaluated by their own words, admit it. Either the rules are not those of the objects (stale,
not synced yet, of an object that is gone), or the rules see another sender: the address was
rewritten on an earlier node before the policy was asked.

Why it matters
--------------
Reading the policies tells that the connection works, and it does not. With
externalTrafficPolicy Cluster, a client that comes in at one node and is served on another is
masqueraded between the two, so an ipBlock for that client never matches there.

Example
-------
  NK430 error  policies admit pod shop/front-1 to shop/web-1, and kube-router's rules on
               worker-2 drop it for shop/deny-all
     worker-2.iptables-save:212

What to do
----------
If the rules differ from the objects, look at the plugin's agent on that node: its log says why
it does not sync; restarting it writes the rules anew. If the sender is rewritten, admit the
address that the rules see (an ipBlock for the nodes, which admits everyone who comes that
way), or keep the client's address: externalTrafficPolicy Local, at the price that only nodes
with an endpoint serve it.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _policies
from netk8s.findings._reading import graded, live, places, proven
from netk8s.model import Finding, Policed, Trace, World

CODE = "NK430"
SEVERITY = "error"
SUMMARY = "NetworkPolicies admit the connection, and a plugin's rules for them drop it."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    known = {f"{p.namespace}/{p.name}" for p in world.cluster.policies}
    for way in live(trace) if "policies" in world.cluster.covered else ():
        found = _policies.denial(way) if way.verdict in ("dropped", "refused", "unreachable") else None
        if found is None:
            continue
        node, step, said = found
        if not _of_the_api(said):
            continue
        for side in _policies.sides(world, trace, way):
            if side.direction != said.direction or side.pod.node not in (None, node) or not side.intent.allowed:
                continue
            by = f"{said.component}'s rules on {node}"
            admitted = f"policies admit {_policies.who(side.other)} to {_policies.name(side.pod)}"
            if side.direction == "egress":
                admitted = f"policies let {_policies.name(side.pod)} reach {_policies.who(side.other)}"
            if side.rewritten and side.as_seen.allowed is False:
                summary = f"{admitted}, and {by} see {side.seen} in its place, which {', '.join(said.policies)} denies"
                remedy = (
                    f"Admit {side.seen}, the address after the masquerade on the way (with it everyone who comes that "
                    "way), or keep the sender's: externalTrafficPolicy Local."
                )
                severity = "warning"
            else:
                gone = [p for p in said.policies if p not in known]
                of = f" of {', '.join(gone)}, which the API does not have" if gone else ""
                summary = f"{admitted}, and {by} drop it for {', '.join(said.policies)}"
                remedy = (
                    f"The rules{of} are not those of the objects: see the log of {said.component} on {node}; "
                    "restarting it writes them anew."
                )
                severity = SEVERITY
            evidence = places(step, *(p.at for p in side.intent.admitting))
            yield Finding(CODE, graded(severity, [way]), summary, evidence, remedy, proven([way]))


def _of_the_api(said: Policed) -> bool:
    """Whether all who denied are NetworkPolicies by their names, "namespace/name", and no plugin's own kinds."""
    plain = [n for n in said.policies if n.count("/") == 1 and " " not in n and "." not in n.partition("/")[2]]
    return bool(said.policies) and len(plain) == len(said.policies)
