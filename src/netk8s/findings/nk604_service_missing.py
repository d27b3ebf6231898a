"""A node has no rules for an address of a Service.

What it sees
------------
A ClusterIP, NodePort, load balancer address or external IP that the API has and for which a node
has neither a translation nor a refusal. Headless Services, load balancer addresses of ipMode
Proxy, and Services that the label service.kubernetes.io/service-proxy-name leaves to another
proxy are not meant, nor is a family for which the node has no rules at all.

Why it matters
--------------
Packets to that address are not translated on this node: they leave it by its routes, or end at
the node itself, and nobody answers.

Example
-------
  NK604 error  worker-2 has no rules for ClusterIP 10.96.0.9:80 of default/web

What to do
----------
See whether kube-proxy runs on that node, reaches the API and what it logs. A restart writes all
rules anew and does not break established connections. Where only some Services are behind,
kube-proxy may be in the middle of a sync: take the dumps again, those of nodes and of the API at
one time. If chains were flushed by hand or by another program, kube-proxy writes them again at
its next full sync (--iptables-sync-period) or restart.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import ABSENT, Drift
from netk8s.findings._drifting import evidence, restart
from netk8s.model import Finding

CODE = "NK604"
SEVERITY = "error"
SUMMARY = "A node has no rules for an address of a Service."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(ABSENT):
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} has no rules for {each.dialled} of {each.service}",
            evidence(each),
            restart(each.node),
        )
