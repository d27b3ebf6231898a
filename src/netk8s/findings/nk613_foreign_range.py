"""A node serves a ClusterIP outside the range of all others.

What it sees
------------
A ClusterIP in a node's rules that no Service has, and that is in none of the networks that hold
the ClusterIPs of the API. The API does not tell its service range, so the smallest network around
all ClusterIPs, at least a /16 (/112), is taken.

Why it matters
--------------
The rules are of another cluster, or of this one before its service range was changed: kube-proxy
talks to another API server, or the rules are left over from one.

Example
-------
  NK613 warning  worker-2 has rules for ClusterIP 172.20.0.1:443
               (default/kubernetes); the Services are in 10.96.0.0/16

What to do
----------
See which API server kube-proxy of the node uses (its kubeconfig). If the rules are left over,
kube-proxy --cleanup or a reboot in a maintenance window removes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from netk8s.drift import RANGE, Drift
from netk8s.findings._drifting import evidence
from netk8s.model import Finding

CODE = "NK613"
SEVERITY = "warning"
SUMMARY = "A node has rules for a ClusterIP outside the Services' networks."


def drift(found: Drift) -> Iterator[Finding]:
    for each in found.of(RANGE):
        whose = f" ({each.service})" if each.service else ""
        yield Finding(
            CODE,
            SEVERITY,
            f"{each.node} has rules for {each.dialled}{whose}; the Services are in {each.what}",
            evidence(each),
            f"See which API server kube-proxy of {each.node} talks to; kube-proxy --cleanup removes rules that are left over.",
        )
