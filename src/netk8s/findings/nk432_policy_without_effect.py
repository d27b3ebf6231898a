"""A NetworkPolicy has no effect: it selects no pod, or nobody enforces it.

What it sees
------------
For the pods at both ends of the connection: policies of their namespaces whose podSelector
selects no pod at all, and policies that do select the pod while no plugin that enforces
policies is recognised on its node. If such a policy denies this very connection, NK431 says so
instead.

Why it matters
--------------
The API accepts both without a word. A selector with a typing error protects nothing, and a
policy on flannel, kindnet without policy support or the plain bridge plugin is never asked.

Example
-------
  NK432 info  policy shop/allow-front selects no pod of its namespace
     cluster/networkpolicies.json:1

What to do
----------
Compare the selector with `kubectl get pods -n NAMESPACE --show-labels`. A policy may be meant
for pods that are yet to come; then there is nothing to do. Where nobody enforces policies,
install a plugin that does, after a look at what else the existing ones would stop.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s import policies
from netk8s.findings import _policies
from netk8s.findings._reading import live, places
from netk8s.model import Cluster, Finding, NetworkPolicy, Trace, World

CODE = "NK432"
SEVERITY = "info"
SUMMARY = "A NetworkPolicy has no effect: it selects no pod, or nobody enforces it."


def check(world: World, trace: Trace) -> Iterator[Finding]:
    sides = {(s.pod, s.direction): s for way in live(trace) for s in _policies.sides(world, trace, way)}
    namespaces = {pod.namespace for pod, _ in sides}
    for policy in world.cluster.policies if world.cluster.knows_pods else ():
        if policy.namespace in namespaces and _idle(world.cluster, policy):
            name = f"{policy.namespace}/{policy.name}"
            remedy = f"Compare it with `kubectl get pods -n {policy.namespace} --show-labels`."
            yield Finding(CODE, SEVERITY, f"policy {name} selects no pod of its namespace", places(policy.at), remedy)
    family = trace.flow.packet.family
    for (pod, _), side in sides.items():
        if side.intent.selecting and side.intent.allowed is not False and not _policies.enforcers(trace, pod.node):
            if not _policies.surveyed(world, pod.node, family):
                continue
            chosen = side.intent.selecting
            what = "policies" if len(chosen) > 1 else "policy"
            summary = f"nobody on {pod.node} enforces {what} {_policies.names(chosen)} for {_policies.name(pod)}"
            remedy = "Install a plugin that enforces NetworkPolicies, after a look at what else they would stop."
            yield Finding(CODE, SEVERITY, summary, places(*(p.at for p in chosen)), remedy)


def _idle(cluster: Cluster, policy: NetworkPolicy) -> bool:
    if cluster.elsewhere:
        return any(f"{policy.namespace}/{policy.name}" in there.idle for there in cluster.elsewhere)
    return not policies.selected(cluster, policy)
