"""NetworkPolicies deny the connection, and it goes through.

What it sees
------------
A packet that reaches its pod although the API's NetworkPolicies, evaluated by their own words,
do not admit it. It says what lets it: nobody on the pod's node enforces policies; a plugin
does, and its rules let this one pass; its rules see another sender, because the address was
rewritten on the way; or a plugin may enforce them where no dump shows it, so that the packet
may well be dropped (then it is not proven).

Why it matters
--------------
A NetworkPolicy without a plugin that enforces it is only a text: the API takes it and nothing
happens. Whoever relies on it is not protected and sees no error. kube-router has one chain for
both directions of a policy: what its egress rules let out, the chain also lets in to another
pod that the same policy selects.

Example
-------
  NK431 warning  policy shop/deny-all keeps 198.51.100.7 from shop/web-1, and it gets there:
                 nobody enforces policies on worker-1
     cluster/networkpolicies.json:1

What to do
----------
Without a plugin for policies: install one that enforces them (calico, kube-router as policy
controller alone, cilium); every policy that exists then takes effect at once, those that were
never tested too. If a plugin enforces them and lets this one pass, see its agent's log on
that node. If the sender is rewritten, policies cannot tell senders apart there: keep the
address (externalTrafficPolicy Local).
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.findings import _policies
from netk8s.findings._policies import Side
from netk8s.findings._reading import arrived, live, places, proven
from netk8s.model import Finding, Trace, Way, World

CODE = "NK431"
SEVERITY = "warning"
SUMMARY = "NetworkPolicies deny the connection, and it goes through."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    told = set()
    for way in live(trace):
        for side in _policies.sides(world, trace, way) if arrived(way) else ():
            key = (side.direction, side.pod, side.other, side.seen)
            if side.intent.allowed is False and key not in told:
                told.add(key)
                yield _finding(world, trace, way, side)


def _finding(world: World, trace: Trace, way: Way, side: Side) -> Finding:
    pod, other, node = _policies.name(side.pod), _policies.who(side.other), side.pod.node
    ends = f"{other} from {pod}" if side.direction == "ingress" else f"{pod} from {other}"
    chosen = side.intent.selecting
    verb = f"{'policies' if len(chosen) > 1 else 'policy'} {_policies.names(chosen)} {'keep' if len(chosen) > 1 else 'keeps'}"
    by = _policies.enforcers(trace, node)
    sure = proven([way])
    if side.rewritten and side.as_seen.allowed:
        why = f"the rules of {node} see {side.seen} in its place, which may"
        remedy = "Keep the sender's address (externalTrafficPolicy Local), or admit nothing that comes by other nodes."
    elif any(one.enforces == "rules" for one in by):
        names = " and ".join(one.name for one in by if one.enforces == "rules")
        why = f"the rules of {names} on {node} let it pass"
        remedy = f"The rules are not those of the objects: see the log of {names} on {node}."
    elif by:
        names = " and ".join(one.name for one in by)
        why = f"as far as the rules of {node} show; {names} may drop it where no dump shows it"
        remedy = f"Look at what {names} has on {node}, or send the packet (netk8s verify)."
        sure = False
    elif node not in world.nodes:
        why = f"no dump of {node} tells whether it is stopped there"
        remedy = f"Take dumps of {node} too."
        sure = False
    else:
        surveyed = _policies.surveyed(world, node, way.packet.family)
        why = f"nobody enforces policies on {node}" + ("" if surveyed else ", as far as its dumps show")
        remedy = (
            "Install a plugin that enforces NetworkPolicies; all that exist take effect then, those never tested too."
        )
        sure = sure and surveyed
    evidence = places(*(p.at for p in chosen), *(sign.at for one in by for sign in one.by[:1]))
    return Finding(CODE, SEVERITY, f"{verb} {ends}, and it gets there: {why}", evidence, remedy, sure)
