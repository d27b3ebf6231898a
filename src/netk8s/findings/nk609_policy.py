"""A node does not follow a Service's traffic policy.

What it sees
------------
A Service's address with externalTrafficPolicy (for a ClusterIP internalTrafficPolicy) Local, for
which a node's rules use endpoints of other nodes. In IPVS mode also an address that is in a set of
the other policy, which decides whether the client's address is replaced.

Why it matters
--------------
The source address of clients is replaced where it should be kept, and traffic leaves the node
where it should stay. A load balancer's health check says something else than the rules do.

Example
-------
  NK609 error  worker-2 uses endpoints of other nodes for NodePort 30080 of
               default/web, whose policy is Local

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time. kube-proxy up to 1.21 does not know internalTrafficPolicy.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import POLICY, Drift
from netk8s.findings._drifting import evidence, restart
from netk8s.model import Finding

CODE = "NK609"
SEVERITY = "error"
SUMMARY = "The rules of a node do not follow the Service's traffic policy."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(POLICY):
        asked, _, has = each.what.partition(", ")
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} serves {each.dialled} of {each.service} by the policy {has}; the Service asks for {asked}",
            evidence(each),
            restart(each.node),
        )
